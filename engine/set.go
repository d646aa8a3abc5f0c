package engine

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"twofold"
	"twofold/engine/drive"
)

// set is an erasure set at work. Its fields do not change; positions hold state.
type set struct {
	id     twofold.SetID
	parity int
	at     []*position

	space spaceCache
}

// position is a slot and what the engine has seen of the drive in it.
type position struct {
	slot *drive.Slot
	// stuck counts calls of writes and the like that were left behind and have not
	// come back. While there are any the drive is not chosen if the others will do,
	// which bounds the goroutines and buffers that a dead disk can hold.
	stuck atomic.Int32
	// lagging counts reads that were hedged and have not come back. Other reads then
	// prefer other drives; writes do not care, as a busy disk is still a good one.
	lagging atomic.Int32
	// slowUntil is a Unix time in nanoseconds up to which reads prefer others.
	slowUntil atomic.Int64
	// usage is the last answer of the drive, nil before the first.
	usage atomic.Pointer[drive.Usage]
}

// slowPenalty is how long reads avoid a drive that had to be hedged.
const slowPenalty = 10 * time.Second

func newSet(c SetConfig) *set {
	s := &set{id: c.ID, parity: c.Parity}
	for _, slot := range c.Slots {
		s.at = append(s.at, &position{slot: slot})
	}
	return s
}

func compareSets(a, b twofold.SetID) int {
	return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Set, b.Set))
}

// Placement returns the slot of each of a blob's n shards: a rotation by a hash of
// the blob's id, so that parity is spread evenly over the drives. It is part of the
// on-disk format only as a hint: a shard's header says which shard it is.
func Placement(b twofold.BlobID, n int) []int {
	order := make([]int, n)
	start := int(xxh3.Hash(b[:]) % uint64(n))
	for i := range order {
		order[i] = (start + i) % n
	}
	return order
}

// readable reports whether reads may be sent to a drive in this state.
func readable(s drive.State) bool { return s != drive.Offline }

// writable reports whether a shard may be written to a drive in this state.
func writable(s drive.State) bool {
	return s == drive.Online || s == drive.Suspect || s == drive.Healing
}

// readRank orders drives for reading: lower is asked first.
func (p *position) readRank(now time.Time) int {
	switch st := p.slot.Drive().State(); {
	case st == drive.Offline:
		return 4
	case p.stuck.Load() > 0, p.lagging.Load() > 0:
		return 3
	case st == drive.Suspect || p.slowUntil.Load() > now.UnixNano():
		return 2
	case st == drive.Healing:
		return 1
	default:
		return 0
	}
}

// call is a call on a drive that its caller may leave behind: it is then counted
// until it ends.
type call struct {
	pos     *position
	counter *atomic.Int32 // of pos
	fate    atomic.Int32
}

// What became of a call: it runs, it was left behind, it has ended.
const (
	callRunning = iota
	callLeft
	callEnded
)

// leave counts the call, if it still runs, until it ends.
func (c *call) leave() {
	c.counter.Add(1)
	if !c.fate.CompareAndSwap(callRunning, callLeft) {
		c.counter.Add(-1)
		return
	}
	c.pos.slowUntil.Store(time.Now().Add(slowPenalty).UnixNano())
}

// end says that the call has ended.
func (c *call) end() {
	if !c.fate.CompareAndSwap(callRunning, callEnded) {
		c.counter.Add(-1)
	}
}
