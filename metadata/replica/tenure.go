package replica

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
)

// Promises: how long one lasts by the clock of the replica that gives it, and how
// long the leader counts on it by its own, from before it asked. The difference is for
// clocks that run at different rates.
const (
	promiseTime = time.Second
	promiseRate = 10 // a tenth
)

// trusted is how long a leader counts on promises of d.
func trusted(d time.Duration) time.Duration { return d - d/promiseRate }

// tenure is one leader's time in one term, from its barrier on: who has promised it
// what. Safe for concurrent use.
type tenure struct {
	term uint64
	d    time.Duration // of a promise

	// required is the epoch that a lease must have at least to hold.
	required atomic.Uint64

	mu    sync.Mutex
	round uint64                      // guarded by mu; the latest that began
	floor uint64                      // guarded by mu; rounds up to here count no more
	asked map[twofold.DriveID]instant // guarded by mu; before the latest request that was answered with a promise was sent
	sets  [][]twofold.DriveID         // guarded by mu; the voters of each configuration that may be in force
	epoch uint64                      // guarded by mu; of leases that are made of what is here
}

func newTenure(term uint64, d time.Duration, voters []twofold.DriveID) *tenure {
	return &tenure{term: term, d: d, asked: map[twofold.DriveID]instant{}, sets: [][]twofold.DriveID{voters}}
}

// begin begins a round: the number goes with the request.
func (t *tenure) begin() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	return t.round
}

// promised notes the answer to a request of a round that was sent after the instant.
func (t *tenure) promised(id twofold.DriveID, round uint64, sent instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if round > t.floor && t.asked[id].mono <= sent.mono {
		t.asked[id] = sent
	}
}

// renounce forgets every promise, and those still on their way: no lease made of them
// holds any more. It returns the round up to which they may be released.
func (t *tenure) renounce() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.floor = t.round
	clear(t.asked)
	t.epoch++
	t.required.Store(t.epoch)
	return t.floor
}

// cover counts promises by a further configuration from now on. It may come into force
// when a lease of the epoch that cover returns is held, and required says so.
func (t *tenure) cover(voters []twofold.DriveID) (epoch uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sets = append(t.sets[:len(t.sets):len(t.sets)], voters)
	t.epoch++
	return t.epoch
}

// settle says that one configuration alone is in force.
func (t *tenure) settle(voters []twofold.DriveID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sets = [][]twofold.DriveID{voters}
}

// end is until when the promises last that a majority of each configuration has
// given, and the epoch of which that is true; false where there are too few.
func (t *tenure) end() (end instant, epoch uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, voters := range t.sets {
		e, ok := t.majority(voters)
		if !ok {
			return instant{}, t.epoch, false
		}
		if i == 0 {
			end = e
		}
		end = instant{min(end.mono, e.mono), min(end.wall, e.wall)}
	}
	return end.add(trusted(t.d)), t.epoch, true
}

// majority is the latest instant after which a majority of voters was asked and
// promised. The caller holds mu.
func (t *tenure) majority(voters []twofold.DriveID) (instant, bool) {
	var mono, wall []time.Duration
	for _, v := range voters {
		if at, ok := t.asked[v]; ok {
			mono, wall = append(mono, at.mono), append(wall, at.wall)
		}
	}
	need := majority(len(voters))
	if len(voters) == 0 || len(mono) < need {
		return instant{}, false
	}
	slices.Sort(mono)
	slices.Sort(wall)
	return instant{mono[len(mono)-need], wall[len(wall)-need]}, true
}
