package locks

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// The model has one cell for each byte of a short file: which owner has it how. It is
// what fcntl(2) says, with nothing to split or to merge.

const modelBytes = 24

type modelKey struct {
	ino   twofold.Ino
	kind  api.LockKind
	owner Owner
}

type model map[modelKey]*[modelBytes]api.LockType

func cells(l api.Lock) (from, to int) {
	return int(min(l.Start, modelBytes-1)), int(min(l.End, modelBytes-1))
}

func (m model) conflict(ino twofold.Ino, o Owner, l api.Lock) bool {
	from, to := cells(l)
	for k, c := range m {
		if k.ino != ino || k.kind != l.Kind || k.owner == o || l.Type == api.LockNone {
			continue
		}
		for i := from; i <= to; i++ {
			if c[i] != 0 && (c[i] == api.LockExclusive || l.Type == api.LockExclusive) {
				return true
			}
		}
	}
	return false
}

func (m model) set(ino twofold.Ino, o Owner, l api.Lock) bool {
	key := modelKey{ino, l.Kind, o}
	if m[key] == nil {
		m[key] = new([modelBytes]api.LockType)
	}
	c := m[key]
	if l.Kind == api.LockFlock && l.Type != c[0] {
		*c = [modelBytes]api.LockType{}
	}
	if m.conflict(ino, o, l) {
		return false
	}
	from, to := cells(l)
	for i := from; i <= to; i++ {
		c[i] = l.Type
	}
	return true
}

// ranges counts runs of equal cells: the number of locks that are kept.
func (m model) ranges(id twofold.SessionID) (n int) {
	for k, c := range m {
		if k.owner.Session != id {
			continue
		}
		last := api.LockNone
		for _, t := range c {
			if t != last && t != api.LockNone {
				n++
			}
			last = t
		}
	}
	return n
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("LOCKS_SEED"); v != "" {
		s, _ = strconv.ParseUint(v, 10, 64)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("LOCKS_SEED=%d", s)
		}
	})
	return s
}

func randomLock(r *rand.Rand) api.Lock {
	l := api.Lock{Type: api.LockType(r.IntN(3)), Owner: uint64(r.IntN(3)), Pid: uint32(r.IntN(3))}
	if r.IntN(5) == 0 {
		l.Kind, l.End = api.LockFlock, api.MaxLockEnd
		return l
	}
	l.Start = uint64(r.IntN(modelBytes))
	l.End = min(l.Start+uint64(r.IntN(10)), modelBytes-1)
	if l.End == modelBytes-1 || r.IntN(8) == 0 {
		l.End = api.MaxLockEnd // the last cell is all the rest
	}
	return l
}

// TestModel runs random requests against the table and the model: the same are granted
// and refused, the same is in the way, and nothing is left over.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(seed(t), 1))
	for range 60 {
		w := newWorld()
		sessions := []*fakeSession{w.session(1), w.session(2), w.session(3)}
		m := model{}
		for step := range 400 {
			s := sessions[r.IntN(len(sessions))]
			ino := twofold.Ino(1 + r.IntN(2))
			l := randomLock(r)
			o := Owner{s.id, l.Owner}
			what := fmt.Sprintf("step %d: session %d, inode %d, %+v", step, s.id, ino, l)
			switch r.IntN(12) {
			case 0:
				w.t.Closed(s, ino)
				for k := range m {
					if k.ino == ino && k.owner.Session == s.id {
						delete(m, k)
					}
				}
			case 1, 2:
				got, found, err := w.t.Get(context.Background(), s, ino, l)
				if err != nil || found != m.conflict(ino, o, l) {
					t.Fatalf("%s: Get: %+v %v %v", what, got, found, err)
				}
			default:
				_, err := w.t.Set(context.Background(), s, ino, l)
				if want := m.set(ino, o, l); want != (err == nil) || err != nil && !errs.Is(err, errs.Locked) {
					t.Fatalf("%s: Set: %v, the model says %v", what, err, want)
				}
			}
			for _, s := range sessions {
				if got, want := w.t.Held(s.id), m.ranges(s.id); got != want {
					t.Fatalf("%s: session %d has %d ranges, the model %d", what, s.id, got, want)
				}
			}
			w.check(t)
		}
		for _, s := range sessions {
			w.t.End(s.id)
		}
		if len(w.t.inodes)+len(w.t.sessions) != 0 {
			t.Fatalf("%d inodes and %d sessions are left", len(w.t.inodes), len(w.t.sessions))
		}
	}
}

// check looks at what must always hold of the table.
func (w *world) check(t *testing.T) {
	t.Helper()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	for ino, in := range w.t.inodes {
		for k := range in.sets {
			for o, spans := range in.sets[k].owners {
				for i, x := range spans {
					if x.start > x.end || x.typ == api.LockNone {
						t.Fatalf("inode %d: %v has %+v", ino, o, x)
					}
					if i > 0 && (spans[i-1].end >= x.start || spans[i-1].end+1 == x.start && spans[i-1].typ == x.typ) {
						t.Fatalf("inode %d: %v has %+v next to %+v", ino, o, spans[i-1], x)
					}
					l := api.Lock{Kind: api.LockKind(k), Type: x.typ, Owner: o.ID, Start: x.start, End: x.end}
					if b, _, found := in.sets[k].Conflict(o, l); found {
						t.Fatalf("inode %d: %v and %v both have %+v", ino, o, b, l)
					}
				}
			}
		}
	}
}
