package replica

import (
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/fsm"
)

// sharer is a StateMachine whose changes others can take. What is not said here is
// said at fsm.Machine's methods.
type sharer interface {
	StateMachine
	OnChanges(publish func(*fsm.Changes))
	Position() fsm.Position
	Take(cs []*fsm.Changes, entries []Entry) (n int, err error)
}

var _ sharer = (*fsm.Machine)(nil)

// share has the machine offer what it computes to the other replicas.
func (h *stateHost) share(m StateMachine) {
	if s, ok := m.(sharer); ok {
		s.OnChanges(func(c *fsm.Changes) { h.exchange.put(h, c) })
	}
}

// apply applies entries and returns a result for each; nil for those of which this
// replica took the changes, which it may only where take says so.
//
// A result is needed by the one who proposed the entry at this replica and waits.
// Whoever proposes counts himself as waiting before the library gets the command, so
// that he is counted when his entry comes here: then everything is computed, but for what
// was held back (hold.go), of which nobody waited for a result. That holds for a leader, for one that has just lost its leadership with entries
// committed, and for one that does not know it yet.
func (h *stateHost) apply(m StateMachine, entries []Entry, take bool) ([]*metadata.Result, error) {
	s, ok := m.(sharer)
	ok = ok && take
	results := make([]*metadata.Result, len(entries))
	for done := 0; done < len(entries); {
		rest := entries[done:]
		n := len(rest)
		if ok {
			cs, skip := h.exchange.find(s.Position(), rest)
			if skip == 0 {
				took, err := s.Take(cs, rest)
				if err != nil {
					return nil, err
				}
				if took > 0 {
					h.taken.Add(int64(took))
					done += took
					continue
				}
			} else {
				n = skip
			}
		}
		computed, err := m.ApplyBatch(rest[:n])
		if err != nil {
			return nil, err
		}
		if len(computed) != n {
			return nil, errs.Newf("replica.apply", errs.Other, "%d results for %d entries", len(computed), n)
		}
		h.computed.Add(int64(n))
		for i := range computed {
			results[done+i] = &computed[i]
		}
		done += n
	}
	h.exchange.advance(h, m.Applied())
	return results, nil
}
