package crash

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// shared are names that all workers read and write, whole values at a time: atomic
// registers. What is read has to be the value of some write, of which no other was
// acknowledged that began after it had ended.
type shared struct {
	r    *rig
	keys int

	mu      sync.Mutex
	writes  map[string][]*assignment // by key
	started time.Time
}

const sharedDir = "shared"

// assignment is a write, a delete, or a read (which says that a value was there).
type assignment struct {
	c          content
	absent     bool
	begin, end time.Duration // end is never while it is under way or of unknown outcome
	acked      bool
}

const never = time.Duration(1<<63 - 1)

func newShared(r *rig, keys int) *shared {
	s := &shared{r: r, keys: keys, writes: map[string][]*assignment{}, started: time.Now()}
	for i := range keys {
		s.writes[s.name(i)] = []*assignment{{absent: true, acked: true}}
	}
	return s
}

// now is the time since the start, on one clock for all.
func (s *shared) now() time.Duration { return time.Since(s.started) }

func (s *shared) name(i int) string { return fmt.Sprintf("%s/s%d", sharedDir, i) }

func (s *shared) begin(key string, a *assignment) *assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.begin, a.end = s.now(), never
	s.writes[key] = append(s.writes[key], a)
	return a
}

func (s *shared) end(a *assignment, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		a.end, a.acked = s.now(), true
	}
}

// lingers is for how long a call of a killed mount may be under way in the server, which
// ends its session a moment later: it waits, among others, for the kernel of the dead mount.
const lingers = 5 * time.Second

// restarted notes that nothing of before is under way any more: at once where the server
// was killed, soon where the mount alone was.
func (s *shared) restarted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.r.orphans.Load() {
		now += lingers
	}
	for _, list := range s.writes {
		for _, a := range list {
			if a.end == never {
				a.end = now
			}
		}
	}
}

// operation writes, deletes or reads some key.
func (s *shared) operation(w *worker) error {
	key := s.name(w.rng.IntN(s.keys))
	n := w.rng.IntN(7)
	if w.mix.noMount && n > 3 {
		n -= 3
	}
	switch n {
	case 0:
		a := s.begin(key, &assignment{absent: true})
		return s.done(w, a, w.r.remove(key), "DELETE "+key)
	case 1:
		a := s.begin(key, &assignment{c: content{}.join(run{w.tag(), w.size()})})
		return s.done(w, a, w.r.put(key, a.c.bytes()), "PUT "+key)
	case 2, 3:
		return s.read(w, key, viewS3)
	case 4:
		return s.read(w, key, viewMount)
	case 5:
		a := s.begin(key, &assignment{absent: true})
		err := os.Remove(w.r.path(key))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return s.done(w, a, w.durablyAt(err, key), "unlink "+key)
	default:
		return s.replace(w, key)
	}
}

// replace writes a file beside, syncs it, and renames it over the key: what programs
// do that must not lose a file.
func (s *shared) replace(w *worker, key string) error {
	c := content{}.join(run{w.tag(), w.size()})
	tmp := w.r.path(fmt.Sprintf("%s/tmp-%s", sharedDir, w.dir))
	err := writeSynced(tmp, c.bytes())
	if err != nil {
		return s.done(w, nil, err, "write "+tmp)
	}
	a := s.begin(key, &assignment{c: c})
	return s.done(w, a, w.durablyAt(os.Rename(tmp, w.r.path(key)), key), "rename over "+key)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

func (s *shared) done(w *worker, a *assignment, err error, what string) error {
	w.log("%s: %s", what, describe(err))
	w.ops.Add(1)
	if err != nil && !unknown(err) {
		w.bad("%s: %v", what, err)
	}
	if err != nil {
		w.unknowns.Add(1)
		time.Sleep(100 * time.Millisecond) // until it is known that something is down
		return nil
	}
	if a != nil {
		s.end(a, err)
	}
	return nil
}

// read reads a key and checks it.
func (s *shared) read(w *worker, key, view string) error {
	began := s.now()
	var b []byte
	var absent bool
	var err error
	if view == viewS3 {
		b, _, absent, err = w.r.get(key)
	} else {
		b, err = os.ReadFile(w.r.path(key))
		if errors.Is(err, os.ErrNotExist) {
			absent, err = true, nil
		}
	}
	if err == nil {
		if why := s.check(key, b, absent, began); why != "" {
			w.bad("%s by %s: %s", key, view, why)
		}
	}
	return s.done(w, nil, err, "read "+key+" by "+view)
}

// check reports why a value may not be what a read that began then sees, and notes
// that it was seen: older ones are over.
func (s *shared) check(key string, b []byte, absent bool, began time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	list := s.writes[key]
	last := time.Duration(-1) // the latest beginning of what had ended before the read
	for _, a := range list {
		if a.acked && a.end < began {
			last = max(last, a.begin)
		}
	}
	var found *assignment
	for i := len(list) - 1; i >= 0 && found == nil; i-- {
		if a := list[i]; a.absent == absent && a.begin <= now && a.end >= last && (absent || a.c.is(b)) {
			found = a
		}
	}
	if found == nil {
		if absent {
			return "it is gone, and no delete was under way since it was written"
		}
		return fmt.Sprintf("%d bytes %s: no value that may be there now (the read began at %s); there may be:%s", len(b), decode(b), began, describeAll(list, last))
	}
	s.writes[key] = append(prune(list, last), &assignment{c: found.c, absent: absent, begin: began, end: now, acked: true})
	return ""
}

// describeAll is for people: writes, and reads, of a name, those that are over with a "-".
func describeAll(list []*assignment, last time.Duration) string {
	var s strings.Builder
	for _, a := range list {
		end := "open"
		if a.end != never {
			end = a.end.String()
		}
		over := ""
		if a.end < last {
			over = "- "
		}
		fmt.Fprintf(&s, "\n%s%s to %s: %v absent=%t acknowledged=%t", over, a.begin, end, a.c, a.absent, a.acked)
	}
	return s.String()
}

// prune forgets what can't be read any more.
func prune(list []*assignment, last time.Duration) (out []*assignment) {
	for _, a := range list {
		if a.end >= last {
			out = append(out, a)
		}
	}
	return out
}

// verify reads all keys by both views, and clears away what was left beside them.
func (s *shared) verify(w *worker) {
	s.restarted()
	for i := range s.keys {
		for _, v := range []string{viewS3, viewMount} {
			if v == viewMount && w.mix.noMount {
				continue
			}
			s.read(w, s.name(i), v)
		}
	}
	if !w.mix.noMount {
		entries, _ := os.ReadDir(w.r.path(sharedDir))
		for _, e := range entries {
			if len(e.Name()) > 4 && e.Name()[:4] == "tmp-" {
				os.Remove(w.r.path(sharedDir + "/" + e.Name()))
			}
		}
	}
}
