package fsm

import (
	"encoding/binary"

	"github.com/tidwall/btree"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// window is what the machine remembers of a session, so that no command needs to
// look for a kept result that isn't there: an exact image of the session's keys
// (with what the batch under way changed), rebuilt from them at need.
type window struct {
	rec   *metadata.Session // nil: there is no such session
	acked uint64
	kept  btree.Set[uint64]
}

func (w *window) alive() bool { return w.rec != nil && !w.rec.Ended }

func (a *applier) window(id twofold.SessionID) (*window, error) {
	if w := a.machine.sessions[id]; w != nil {
		return w, nil
	}
	w := &window{}
	var err error
	if w.rec, err = a.session(id); err != nil {
		return nil, err
	}
	if w.rec == nil {
		return w, nil // not remembered: anyone can name sessions that are not
	}
	if w.acked, err = a.number(ackedKey(id)); err != nil {
		return nil, err
	}
	prefix := num(pKept, uint64(id))
	err = a.scan(prefix, prefixEnd(prefix), func(k, _ []byte) (bool, error) {
		if len(k) != len(prefix)+8 {
			return false, errNumber
		}
		w.kept.Insert(binary.BigEndian.Uint64(k[len(prefix):]))
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	a.machine.sessions[id] = w
	return w, nil
}

// putSession writes the record and forgets the window, which is read again.
func (a *applier) putSession(s *metadata.Session) error {
	v, err := metadata.EncodeSession(s)
	if err != nil {
		return err
	}
	a.set(sessionKey(s.ID), v)
	delete(a.machine.sessions, s.ID)
	return nil
}

// before answers a command that came before, or that may not come any more.
func (a *applier) before(w *window, c *metadata.Command) (*metadata.Result, error) {
	switch {
	case w.rec == nil:
		return failed(&refusal{kind: errs.Fenced, msg: "unknown session"}), nil
	case w.kept.Contains(c.Seq):
		v, err := a.get(keptKey(c.Session, c.Seq))
		if err != nil {
			return nil, err
		}
		return metadata.DecodeResult(v)
	case c.Seq < w.acked:
		// A late copy of a command whose result was received. It had its effect.
		return failed(&refusal{kind: errs.UnknownOutcome, msg: "the command was acknowledged before"}), nil
	case w.rec.Ended:
		return failed(&refusal{kind: errs.Fenced, msg: "the session has ended"}), nil
	}
	return nil, nil
}

// keep stores a result for the command coming again, and drops some of those that
// will not be asked for any more.
func (a *applier) keep(w *window, c *metadata.Command, res *metadata.Result) error {
	v, err := metadata.EncodeResult(res)
	if err != nil {
		return err
	}
	a.set(keptKey(c.Session, c.Seq), v)
	w.kept.Insert(c.Seq)
	if c.Acked > w.acked {
		w.acked = c.Acked
		a.set(ackedKey(c.Session), be64(nil, w.acked))
	}
	for range maxAckReap {
		seq, ok := w.kept.GetAt(0)
		if !ok || seq >= w.acked {
			break
		}
		w.kept.Delete(seq)
		a.del(keptKey(c.Session, seq))
	}
	if a.machine.sessions[c.Session] != w { // the command changed its own session
		delete(a.machine.sessions, c.Session)
	}
	return nil
}

func (a *applier) beginSession(b *metadata.BeginSession) (*metadata.Result, error) {
	id, err := a.number(nonceKey(b.Nonce))
	if err != nil {
		return nil, err
	}
	if id != 0 {
		return &metadata.Result{ID: id}, nil
	}
	if id, err = a.next(keyNextSession, 1); err != nil {
		return nil, err
	}
	a.set(nonceKey(b.Nonce), be64(nil, id))
	return &metadata.Result{ID: id}, a.putSession(&metadata.Session{
		ID: twofold.SessionID(id), Kind: b.Kind, Node: b.Node, Secret: b.Secret, Created: a.cmd.Now, Nonce: b.Nonce,
	})
}

// next gives out a number: first, then one more each time.
func (a *applier) next(key string, first uint64) (uint64, error) {
	n, err := a.number(key)
	if err != nil {
		return 0, err
	}
	n = max(n, first)
	a.set(key, be64(nil, n+1))
	return n, nil
}

func (a *applier) endSession(b *metadata.EndSession) (*metadata.Result, error) {
	s, err := a.session(b.ID)
	if err != nil || s == nil || s.Ended {
		return &metadata.Result{}, err
	}
	s.Ended = true
	return &metadata.Result{}, a.putSession(s)
}

func (a *applier) forgetSession(b *metadata.ForgetSession) (*metadata.Result, error) {
	s, err := a.session(b.ID)
	if err != nil || s == nil {
		return &metadata.Result{}, err
	}
	if !s.Ended {
		return nil, refusef(errs.Busy, "session %d has not ended", b.ID)
	}
	keys, more, err := a.someKeys(num(pKept, uint64(b.ID)), maxReap)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		a.del(k)
	}
	delete(a.machine.sessions, b.ID)
	if more {
		return &metadata.Result{More: true}, nil
	}
	a.del(sessionKey(b.ID))
	a.del(ackedKey(b.ID))
	a.del(inosKey(b.ID))
	a.del(nonceKey(s.Nonce))
	return &metadata.Result{}, nil
}

// someKeys lists at most max keys of a prefix, and whether there are more.
func (a *applier) someKeys(prefix string, max int) (keys []string, more bool, err error) {
	err = a.scan(prefix, prefixEnd(prefix), func(k, _ []byte) (bool, error) {
		if more = len(keys) == max; more {
			return false, nil
		}
		keys = append(keys, string(k))
		return true, nil
	})
	return keys, more, err
}
