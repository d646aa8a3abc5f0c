package engine

import (
	"context"
	"sync"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
)

// DriveHealth is one drive's part of a SetHealth.
type DriveHealth struct {
	ID    twofold.DriveID
	Name  string
	State drive.State
}

// SetHealth is what a set can do now.
type SetHealth struct {
	Set    twofold.SetID
	Parity int // of blobs that ask for none
	Drives []DriveHealth
	States map[drive.State]int
	// CanRead: blobs written with all drives online and the set's parity can be read.
	CanRead bool
	// CanWrite: a write of the set's parity would find its quorum.
	CanWrite bool
}

// Health tells of every set, by id. It asks no drive anything but its state.
func (e *Engine) Health() []SetHealth {
	var all []SetHealth
	for _, s := range e.allSets() {
		h := SetHealth{Set: s.id, Parity: s.parity, States: make(map[drive.State]int)}
		canRead := 0
		for _, p := range s.at {
			d := p.slot.Drive()
			st := d.State()
			h.Drives = append(h.Drives, DriveHealth{ID: d.ID(), Name: d.String(), State: st})
			h.States[st]++
			if readable(st) && st != drive.Healing {
				canRead++
			}
		}
		h.CanRead = canRead >= len(s.at)-s.parity
		_, err := s.plan(-1)
		h.CanWrite = err == nil
		all = append(all, h)
	}
	return all
}

// SetInfo is what choosing a set for a new blob needs.
type SetInfo struct {
	ID       twofold.SetID
	Drives   int
	Parity   int
	Free     uint64 // bytes of content it can take at its parity
	Total    uint64
	Writable bool
}

// ChooseableSets lists the sets by id with their space. It asks the drives, but for
// no longer than a second; one that does not answer counts as it last did.
func (e *Engine) ChooseableSets(ctx context.Context) []SetInfo {
	var all []SetInfo
	for _, s := range e.allSets() {
		u := e.setUsage(ctx, s)
		_, err := s.plan(-1)
		all = append(all, SetInfo{
			ID: s.id, Drives: len(s.at), Parity: s.parity, Free: u.Free, Total: u.Total, Writable: err == nil,
		})
	}
	return all
}

// Usage is space in bytes of content, at each set's parity.
type Usage struct {
	Total uint64
	Free  uint64
	Pools []PoolUsage // by number
}

// PoolUsage is a pool's part of a Usage.
type PoolUsage struct {
	Pool  uint16
	Total uint64
	Free  uint64
}

// Usage adds up the sets' space. It asks the drives, see ChooseableSets.
func (e *Engine) Usage(ctx context.Context) Usage {
	var u Usage
	for _, s := range e.ChooseableSets(ctx) {
		u.Total += s.Total
		u.Free += s.Free
		if n := len(u.Pools); n == 0 || u.Pools[n-1].Pool != s.ID.Pool {
			u.Pools = append(u.Pools, PoolUsage{Pool: s.ID.Pool})
		}
		p := &u.Pools[len(u.Pools)-1]
		p.Total += s.Total
		p.Free += s.Free
	}
	return u
}

// maxSpare bounds what Room leaves of a set, in bytes of content.
const maxSpare = 512 << 20

// Room is how many bytes of content can be written now, with the parity that drives
// which are missing make it (see plan). A 32nd of a set is not in it: metadata grows
// on the same drives, and the last blocks of a blob may not be whole ones. It asks the
// drives, for no longer than a second.
func (e *Engine) Room(ctx context.Context) (room uint64) {
	for _, s := range e.allSets() {
		p, err := s.plan(-1)
		if err != nil {
			continue
		}
		s.space.mu.Lock()
		s.space.usage, s.space.at = e.askUsage(ctx, s), time.Now()
		u := s.space.usage
		s.space.mu.Unlock()
		if spare := min(u.Total/32, maxSpare); u.Free > spare {
			room += drive.ContentOf(u.Free-spare) / uint64(len(s.at)-s.parity) * uint64(p.Data)
		}
	}
	return room
}

// sharedSpace is a drive that can tell which file system it is on, so that space
// which several drives share is not counted for each.
type sharedSpace interface{ FileSystem() uint64 }

// spaceCache keeps a set's space for spaceAge, so that it can be asked for with every
// write.
type spaceCache struct {
	mu    sync.Mutex
	at    time.Time   // guarded by mu
	usage drive.Usage // guarded by mu
}

const spaceAge = time.Second

// setUsage is what a set can hold, not older than spaceAge.
func (e *Engine) setUsage(ctx context.Context, s *set) drive.Usage {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	if time.Since(s.space.at) >= spaceAge {
		s.space.usage = e.askUsage(ctx, s)
		s.space.at = time.Now()
	}
	return s.space.usage
}

// writableWithoutFull reports whether drives that are not full are a write quorum.
func (s *set) writableWithoutFull() bool {
	up := 0
	for _, p := range s.at {
		switch p.slot.Drive().State() {
		case drive.Online, drive.Healing, drive.Suspect:
			up++
		}
	}
	return up >= placement.CodingFor(len(s.at), s.parity, len(s.at)-up).WriteQuorum()
}

// askUsage asks the drives: a blob takes as much of every one, so the smallest bounds
// all. Drives that are full don't, while the others are enough for a write: it goes
// on without them.
func (e *Engine) askUsage(ctx context.Context, s *set) drive.Usage {
	answers := ask(ctx, s, time.Second, true, func(ctx context.Context, d drive.Drive) (drive.Usage, error) {
		return d.Usage(ctx)
	})
	sharers := make(map[uint64]uint64)
	for _, a := range answers {
		if fs, ok := a.drv.(sharedSpace); ok && a.err == nil {
			sharers[fs.FileSystem()]++
		}
	}
	withoutFull := s.writableWithoutFull()
	var least *drive.Usage
	for i, a := range answers {
		u := a.value
		if a.err != nil {
			last := s.at[i].usage.Load()
			if last == nil {
				continue
			}
			u = *last
		} else {
			if fs, ok := a.drv.(sharedSpace); ok {
				n := sharers[fs.FileSystem()]
				u.Total, u.Free = u.Total/n, u.Free/n
			}
			s.at[i].usage.Store(&u)
		}
		if withoutFull && a.drv.State() == drive.Full {
			continue
		}
		if least == nil {
			least = &u
		}
		least = &drive.Usage{Total: min(least.Total, u.Total), Free: min(least.Free, u.Free)}
	}
	if least == nil {
		return drive.Usage{}
	}
	data := uint64(len(s.at) - s.parity)
	return drive.Usage{Total: least.Total * data, Free: least.Free * data}
}
