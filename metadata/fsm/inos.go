package fsm

import (
	"encoding/binary"
	"slices"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// A session's numbers for new inodes lie in ranges, in ascending order, of which each
// begins with the lowest that may still be taken: taking one gives up those below it. A
// number is so taken once, and no command but a Batch of the session makes an inode in them.

// inoRange is [next, end).
type inoRange struct{ next, end uint64 }

// numbers are a session's, for the command under way.
type numbers struct {
	session twofold.SessionID
	ranges  []inoRange
	changed bool
	dirs    []twofold.Ino // directories that the command has made
}

func (s state) numbers(id twofold.SessionID) (*numbers, error) {
	v, err := s.get(inosKey(id))
	if err != nil {
		return nil, err
	}
	n := &numbers{session: id}
	n.ranges, err = decodeRanges(v)
	return n, err
}

func decodeRanges(v []byte) (rs []inoRange, err error) {
	if len(v)%16 != 0 {
		return nil, errNumber
	}
	for ; len(v) > 0; v = v[16:] {
		rs = append(rs, inoRange{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])})
	}
	return rs, nil
}

// take uses a number up. errs.Conflict where it is none that is left.
func (n *numbers) take(ino twofold.Ino) error {
	for i := range n.ranges {
		r := &n.ranges[i]
		if uint64(ino) >= r.next && uint64(ino) < r.end {
			r.next, n.changed = uint64(ino)+1, true
			return nil
		}
	}
	return refusef(errs.Conflict, "inode number %d is none that session %d has left", ino, n.session)
}

// movable refuses to move what others may be below: a directory with entries that the
// command has not made itself. Whoever goes through it knows nothing of leases above.
func (n *numbers) movable(a *applier, ino twofold.Ino) error {
	i, err := a.load(ino)
	if err != nil || i == nil || i.Type != metadata.TypeDir || i.Children == 0 || slices.Contains(n.dirs, ino) {
		return err
	}
	return refusef(errs.Conflict, "directory %d is not empty", ino)
}

// flush writes what was changed.
func (n *numbers) flush(a *applier) {
	if !n.changed {
		return
	}
	var v []byte
	for _, r := range n.ranges {
		if r.next < r.end {
			v = be64(be64(v, r.next), r.end)
		}
	}
	a.set(inosKey(n.session), v) // nil deletes
}

func (a *applier) reserveInos(c *metadata.ReserveInos) (*metadata.Result, error) {
	if c.N == 0 || c.N > maxInos {
		return nil, refusef(errs.Invalid, "%d inode numbers", c.N)
	}
	w, err := a.window(c.Session)
	if err != nil {
		return nil, err
	}
	if !w.alive() {
		return nil, refusef(errs.Fenced, "session %d has ended", c.Session)
	}
	n, err := a.numbers(c.Session)
	if err != nil {
		return nil, err
	}
	first, err := a.number(keyNextIno)
	if err != nil {
		return nil, err
	}
	first = max(first, uint64(twofold.FirstIno))
	if k := len(n.ranges); k > 0 && n.ranges[k-1].end == first {
		n.ranges[k-1].end += c.N
	} else if k < maxInoRanges {
		n.ranges = append(n.ranges, inoRange{first, first + c.N})
	} else {
		return nil, refusef(errs.Busy, "session %d has %d ranges of inode numbers that it does not use", c.Session, k)
	}
	a.set(keyNextIno, be64(nil, first+c.N))
	n.changed = true
	n.flush(a)
	return &metadata.Result{ID: first}, nil
}
