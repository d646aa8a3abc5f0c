package locks

import (
	"cmp"
	"slices"

	"twofold"
	"twofold/volume/api"
)

// Owner is who has a lock.
type Owner struct {
	Session twofold.SessionID
	ID      uint64 // api.Lock's
}

// span is a range that an owner has locked.
type span struct {
	start, end uint64 // inclusive
	typ        api.LockType
	pid        uint32
}

// Set is the locks of one inode and of one kind. Of one owner they neither overlap nor,
// when of the same type, touch. It has no clock and no lock of its own.
type Set struct {
	owners map[Owner][]span // by start
}

// Empty tells that there are none.
func (s *Set) Empty() bool { return len(s.owners) == 0 }

// Conflict finds a lock of another owner that overlaps with l and excludes it. Of
// several it is the one that begins first.
func (s *Set) Conflict(o Owner, l api.Lock) (blocker Owner, lock api.Lock, found bool) {
	s.conflicts(o, l, func(b Owner, sp span) bool {
		if !found || sp.start < lock.Start || sp.start == lock.Start && less(b, blocker) {
			blocker, found = b, true
			lock = api.Lock{Kind: l.Kind, Type: sp.typ, Owner: b.ID, Start: sp.start, End: sp.end, Pid: sp.pid}
		}
		return true
	})
	return blocker, lock, found
}

func less(a, b Owner) bool {
	return cmp.Or(cmp.Compare(a.Session, b.Session), cmp.Compare(a.ID, b.ID)) < 0
}

// conflicts calls fn with the first conflicting span of each other owner, until fn says
// false.
func (s *Set) conflicts(o Owner, l api.Lock, fn func(Owner, span) bool) {
	if l.Type == api.LockNone {
		return
	}
	for b, spans := range s.owners {
		if b == o {
			continue
		}
		for i := from(spans, l.Start); i < len(spans) && spans[i].start <= l.End; i++ {
			if excludes(spans[i].typ, l.Type) {
				if !fn(b, spans[i]) {
					return
				}
				break
			}
		}
	}
}

func excludes(a, b api.LockType) bool { return a == api.LockExclusive || b == api.LockExclusive }

func overlap(a, b api.Lock) bool { return a.Start <= b.End && b.Start <= a.End }

// from is the index of the first span that ends at or behind off.
func from(spans []span, off uint64) int {
	i, _ := slices.BinarySearchFunc(spans, off, func(s span, off uint64) int { return cmp.Compare(s.end, off) })
	return i
}

// Apply gives l's range of the owner l's type, without a look at others, and returns by
// how many the number of ranges changed.
func (s *Set) Apply(o Owner, l api.Lock) int {
	old := s.owners[o]
	// What is touched: ranges that overlap, and neighbours that may be joined.
	lo := from(old, max(l.Start, 1)-1)
	hi := lo
	for hi < len(old) && (old[hi].start <= l.End || old[hi].start-1 == l.End) {
		hi++
	}
	var mid []span
	add := func(n span) {
		if k := len(mid) - 1; k >= 0 && mid[k].typ == n.typ && mid[k].end+1 == n.start {
			mid[k].end, mid[k].pid = n.end, n.pid
			return
		}
		mid = append(mid, n)
	}
	in := l.Type == api.LockNone
	self := span{l.Start, l.End, l.Type, l.Pid}
	for _, x := range old[lo:hi] {
		if x.start < l.Start {
			add(span{x.start, min(x.end, l.Start-1), x.typ, x.pid})
		}
		if !in && x.end >= l.Start {
			add(self)
			in = true
		}
		if x.end > l.End {
			add(span{max(x.start, l.End+1), x.end, x.typ, x.pid})
		}
	}
	if !in {
		add(self)
	}
	grown := len(mid) - (hi - lo)
	next := slices.Replace(slices.Clone(old), lo, hi, mid...)
	if len(next) == 0 {
		delete(s.owners, o)
		return grown
	}
	if s.owners == nil {
		s.owners = make(map[Owner][]span)
	}
	s.owners[o] = next
	return grown
}

// Covers reports whether the owner has all of l's range with at least l's type; for
// LockNone, whether it has nothing of it.
func (s *Set) Covers(o Owner, l api.Lock) bool {
	spans := s.owners[o]
	i := from(spans, l.Start)
	if l.Type == api.LockNone {
		return i == len(spans) || spans[i].start > l.End
	}
	for next := l.Start; i < len(spans) && spans[i].start <= next && spans[i].typ >= l.Type; i++ {
		if spans[i].end >= l.End {
			return true
		}
		next = spans[i].end + 1
	}
	return false
}

// Convert drops a flock(2) lock of the owner that is of another type than l wants, and
// returns how many ranges that were: 0 for all else. Linux does so before it looks
// whether l can be had.
func (s *Set) Convert(o Owner, l api.Lock) int {
	old := s.owners[o]
	if l.Kind != api.LockFlock || l.Type == api.LockNone || len(old) == 0 || old[0].typ == l.Type {
		return 0
	}
	delete(s.owners, o)
	return len(old)
}

// Drop ends all locks of the owners that which picks, and returns how many ranges
// these were.
func (s *Set) Drop(which func(Owner) bool) (n int) {
	for o, spans := range s.owners {
		if which(o) {
			n += len(spans)
			delete(s.owners, o)
		}
	}
	return n
}

// List returns a session's locks, in an order that depends on nothing else.
func (s *Set) List(kind api.LockKind, session twofold.SessionID) (all []api.Lock) {
	for o, spans := range s.owners {
		if o.Session != session {
			continue
		}
		for _, x := range spans {
			all = append(all, api.Lock{Kind: kind, Type: x.typ, Owner: o.ID, Start: x.start, End: x.end, Pid: x.pid})
		}
	}
	slices.SortFunc(all, func(a, b api.Lock) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Owner, b.Owner))
	})
	return all
}
