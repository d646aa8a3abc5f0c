package replica

import (
	"sync"

	"twofold/metadata/fsm"
)

// exchange lets the replicas of a process take the changes that one of them
// computed, instead of computing them again. It holds what others may still take,
// within bounds. Nobody waits for it: who finds nothing computes. It is one group's.
// A nil exchange holds nothing. Safe for concurrent use.
type exchange struct {
	mu      sync.Mutex
	applied map[*stateHost]uint64         // guarded by mu; the members, and how far each has got
	runs    map[fsm.Position]*fsm.Changes // guarded by mu; by where they begin
	order   []*fsm.Changes                // guarded by mu; runs, the oldest first
	bytes   int                           // guarded by mu; of runs
}

// What an exchange holds at most. A member that lags computes what fell out.
const (
	exchangeBytes = 8 << 20
	exchangeRuns  = 256
)

func newExchange() *exchange {
	return &exchange{applied: map[*stateHost]uint64{}, runs: map[fsm.Position]*fsm.Changes{}}
}

// join makes h a member, for whom changes are kept.
func (x *exchange) join(h *stateHost) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.applied[h] = 0
}

// leave undoes join. It may be called by whoever did not join, and again.
func (x *exchange) leave(h *stateHost) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.applied, h)
	x.trim()
}

// reset forgets all changes: the group goes on from another log.
func (x *exchange) reset() {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.runs)
	x.order, x.bytes = nil, 0
}

// put offers changes that h computed. Those that nobody else needs are not kept, nor
// those that came from another before, nor those of one that is out.
func (x *exchange) put(h *stateHost, c *fsm.Changes) {
	if x == nil || c.Size() > exchangeBytes {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, member := x.applied[h]; !member || x.runs[c.Base()] != nil {
		return
	}
	needed := false
	for m, applied := range x.applied {
		needed = needed || m != h && applied < c.Last().Index
	}
	if !needed {
		return
	}
	x.runs[c.Base()] = c
	x.order = append(x.order, c)
	x.bytes += c.Size()
	for x.bytes > exchangeBytes || len(x.order) > exchangeRuns {
		x.dropOldest()
	}
}

// takeBytes is from how many bytes of changes on no more runs are taken at once.
const takeBytes = 1 << 20

// find looks for changes that a machine at a position can take of entries: those
// that begin at once (skip 0), of one run behind the other, or behind as few entries as
// possible, which are to be computed first. Without any, skip is all of them.
func (x *exchange) find(at fsm.Position, entries []Entry) (cs []*fsm.Changes, skip int) {
	if x == nil {
		return nil, len(entries)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	end := entries[len(entries)-1].Index
	for size := 0; size < takeBytes; {
		c := x.runs[at]
		if c == nil || c.Last().Index > end {
			break
		}
		cs, at, size = append(cs, c), c.Last(), size+c.Size()
	}
	if len(cs) > 0 {
		return cs, 0
	}
	for k, e := range entries[:len(entries)-1] {
		if e.Index <= at.Index {
			continue
		}
		if c := x.runs[fsm.Position{Index: e.Index, Term: e.Term}]; c != nil && c.Last().Index <= end {
			return nil, k + 1
		}
	}
	return nil, len(entries)
}

// advance notes how far a member has got.
func (x *exchange) advance(h *stateHost, applied uint64) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.applied[h]; !ok {
		return
	}
	x.applied[h] = applied
	x.trim()
}

// trim drops what every member has applied. The caller holds mu.
func (x *exchange) trim() {
	least := ^uint64(0)
	for _, applied := range x.applied {
		least = min(least, applied)
	}
	for len(x.order) > 0 && (len(x.applied) < 2 || x.order[0].Last().Index <= least) {
		x.dropOldest()
	}
}

// dropOldest is called with mu held.
func (x *exchange) dropOldest() {
	c := x.order[0]
	x.order[0] = nil
	x.order = x.order[1:]
	delete(x.runs, c.Base())
	x.bytes -= c.Size()
}
