package drive

import (
	"context"
	"fmt"
	"sync/atomic"

	"twofold"
	"twofold/internal/errs"
)

// Slot is a position in an erasure set: what the engine addresses. The drive in it
// may be lost, come back, or be replaced by another one while the program runs; a
// Slot always has a Drive to ask, an offline one in the worst case. Safe for
// concurrent use.
type Slot struct {
	set   twofold.SetID
	index int
	cur   atomic.Pointer[holder]
}

// holder lets an atomic pointer hold an interface.
type holder struct{ d Drive }

// NewSlot returns the slot at a position, holding d. A nil d: nothing was found
// there, and an offline drive stands in.
func NewSlot(set twofold.SetID, index int, d Drive) *Slot {
	s := &Slot{set: set, index: index}
	s.Put(d)
	return s
}

// Drive is what is in the slot now; never nil. A caller that does several things to
// one drive asks once and keeps the answer.
func (s *Slot) Drive() Drive { return s.cur.Load().d }

// Position is where the slot is: its set, and its index in it, from 0.
func (s *Slot) Position() (twofold.SetID, int) { return s.set, s.index }

// Put places d in the slot and returns what was there. A nil d is an offline drive.
func (s *Slot) Put(d Drive) (old Drive) {
	if d == nil {
		d = NewAbsent(twofold.DriveID{}, fmt.Sprintf("drive %d of set %s", s.index+1, s.set))
	}
	if h := s.cur.Swap(&holder{d}); h != nil {
		old = h.d
	}
	return old
}

// Absent is a drive that is not there: every operation fails with
// errs.Unavailable at once.
type Absent struct {
	id   twofold.DriveID
	name string
}

var _ Drive = (*Absent)(nil)

// NewAbsent returns an offline drive with the id it has when it comes back (zero
// where that is not known) and a name for people.
func NewAbsent(id twofold.DriveID, name string) *Absent { return &Absent{id: id, name: name} }

// ID is the missing drive's id, zero where it is not known.
func (a *Absent) ID() twofold.DriveID { return a.id }

func (a *Absent) String() string { return a.name }

// State is Offline.
func (a *Absent) State() State { return Offline }

func (a *Absent) err(op string) error {
	return errs.Newf(op, errs.Unavailable, "%s is offline", a.name)
}

// Create fails.
func (a *Absent) Create(context.Context, ShardHeader) (ShardWriter, error) {
	return nil, a.err("drive.Create")
}

// Open fails.
func (a *Absent) Open(context.Context, twofold.BlobID) (ShardReader, error) {
	return nil, a.err("drive.Open")
}

// Stat fails.
func (a *Absent) Stat(context.Context, twofold.BlobID) (ShardInfo, error) {
	return ShardInfo{}, a.err("drive.Stat")
}

// Delete fails.
func (a *Absent) Delete(context.Context, twofold.BlobID) error { return a.err("drive.Delete") }

// Walk fails.
func (a *Absent) Walk(context.Context, twofold.BlobID, func(twofold.BlobID) error) error {
	return a.err("drive.Walk")
}

// Usage fails.
func (a *Absent) Usage(context.Context) (Usage, error) { return Usage{}, a.err("drive.Usage") }
