package serve

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Class is what an operation does, as faults see it.
type Class string

const (
	Read  Class = "read"  // READ
	Write Class = "write" // WRITE, fallocate, a change of size
	Fsync Class = "fsync" // FSYNC, FSYNCDIR
	Meta  Class = "meta"  // all others: lookups, attributes, opens, names, statfs
)

// Kind is what a fault does to the operations it meets.
type Kind string

const (
	EIO      Kind = "eio"       // they fail with EIO
	ENOSPC   Kind = "enospc"    // those that need space fail with ENOSPC, and statfs tells of none
	EROFS    Kind = "erofs"     // those that change something fail with EROFS
	Hang     Kind = "hang"      // they wait until the fault is cleared (or the waiting process is killed)
	ShortLie Kind = "short-lie" // fsync says yes and does nothing
)

// Fault is one fault that is in force.
type Fault struct {
	ID    int    `json:"id"`
	Kind  Kind   `json:"kind"`
	Class Class  `json:"class,omitempty"` // of EIO and Hang: only this class; "" is all
	Drive int    `json:"drive"`           // -1 is all
	Path  string `json:"path,omitempty"`  // pattern, see matchPath; "" is all
	Count int64  `json:"count,omitempty"` // so many operations, then it is over; 0 is until cleared

	left    atomic.Int64
	cleared chan struct{} // closed when the fault is over
	once    sync.Once
}

func (f *Fault) end() { f.once.Do(func() { close(f.cleared) }) }

// operation is what a request is to the faults.
type operation struct {
	class   Class
	changes bool // it changes the file system
	grows   bool // it needs space
	drive   int
	paths   func() []string // all names of what it is about
}

// faults is the table. The zero value is empty. Requests read it without a lock.
type faults struct {
	mu     sync.Mutex // serialises changes
	lastID int
	now    atomic.Pointer[[]*Fault]
}

func (t *faults) list() []*Fault {
	if p := t.now.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *faults) add(f *Fault) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastID++
	f.ID, f.cleared = t.lastID, make(chan struct{})
	f.left.Store(f.Count)
	fs := append(append([]*Fault(nil), t.list()...), f)
	t.now.Store(&fs)
	return f.ID
}

// clear ends the fault with the id, or all for 0, and says whether there was one.
func (t *faults) clear(id int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []*Fault
	found := false
	for _, f := range t.list() {
		if id != 0 && f.ID != id {
			kept = append(kept, f)
			continue
		}
		found = true
		f.end()
	}
	t.now.Store(&kept)
	return found
}

// meet applies the faults to an operation: it waits, and returns an error or
// whether to lie. dead ends the wait, as does cancel.
func (t *faults) meet(op operation, cancel, dead <-chan struct{}) (lie bool, err error) {
	for _, f := range t.list() {
		if !f.concerns(op) || !f.take() {
			continue
		}
		switch f.Kind {
		case EIO:
			return false, syscall.EIO
		case ENOSPC:
			return false, syscall.ENOSPC
		case EROFS:
			return false, syscall.EROFS
		case ShortLie:
			lie = true
		case Hang:
			select {
			case <-f.cleared:
			case <-dead:
				return false, syscall.EIO
			case <-cancel:
				return false, syscall.EINTR
			}
		}
	}
	return lie, nil
}

// full reports whether statfs should tell of no space.
func (t *faults) full(drive int) bool {
	for _, f := range t.list() {
		if f.Kind == ENOSPC && f.Path == "" && (f.Drive < 0 || f.Drive == drive) {
			return true
		}
	}
	return false
}

func (f *Fault) concerns(op operation) bool {
	if f.Drive >= 0 && f.Drive != op.drive {
		return false
	}
	switch f.Kind {
	case EIO, Hang:
		if f.Class != "" && f.Class != op.class {
			return false
		}
	case ENOSPC:
		if !op.grows {
			return false
		}
	case EROFS:
		if !op.changes {
			return false
		}
	case ShortLie:
		if op.class != Fsync {
			return false
		}
	}
	if f.Path == "" {
		return true
	}
	for _, p := range op.paths() {
		if matchPath(f.Path, p) {
			return true
		}
	}
	return false
}

// take uses up one of the count.
func (f *Fault) take() bool {
	if f.Count == 0 {
		return true
	}
	return f.left.Add(-1) >= 0
}

// matchPath matches a path from the drive's root, without a leading slash: with a
// slash in the pattern the whole path (dir/** is dir and everything below), without
// one the last component.
func matchPath(pattern, p string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		return p == dir || strings.HasPrefix(p, dir+"/")
	}
	if !strings.Contains(pattern, "/") {
		p = path.Base(p)
	}
	ok, _ := path.Match(strings.TrimPrefix(pattern, "/"), p)
	return ok
}

// parseFault reads the words of a fault command:
// KIND [CLASS] [path=PATTERN] [drive=N] [count=N].
func parseFault(words []string, drives int) (*Fault, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("fault: say eio, enospc, erofs, hang or short-lie")
	}
	f := &Fault{Kind: Kind(words[0]), Drive: -1}
	switch f.Kind {
	case EIO, ENOSPC, EROFS, Hang, ShortLie:
	default:
		return nil, fmt.Errorf("fault: no kind %q", words[0])
	}
	for _, w := range words[1:] {
		if err := f.set(w, drives); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *Fault) set(word string, drives int) error {
	key, val, pair := strings.Cut(word, "=")
	switch c := Class(word); {
	case !pair && (c == Read || c == Write || c == Fsync || c == Meta):
		if f.Kind != EIO && f.Kind != Hang {
			return fmt.Errorf("fault: %s has no classes", f.Kind)
		}
		f.Class = c
	case pair && key == "path":
		if _, err := path.Match(val, ""); err != nil {
			return fmt.Errorf("fault: pattern %q: %w", val, err)
		}
		f.Path = val
	case pair && key == "drive":
		n, err := strconv.Atoi(val)
		if err != nil || n < -1 || n >= drives {
			return fmt.Errorf("fault: no drive %q", val)
		}
		f.Drive = n
	case pair && key == "count":
		n, err := strconv.ParseInt(val, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("fault: count %q", val)
		}
		f.Count = n
	default:
		return fmt.Errorf("fault: don't understand %q", word)
	}
	return nil
}
