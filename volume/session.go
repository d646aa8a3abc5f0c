package volume

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/plant"
	"twofold/internal/procid"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/lease"
)

// Session is one mount's session: its leases, its open files, and the number under
// which its commands are known. It is durable: a server that restarts finds it in
// the metadata, and the mount resumes it.
type Session struct {
	v      *Volume
	id     twofold.SessionID
	token  []byte
	node   string // procid of the mount
	holder api.Holder
	caches atomic.Bool   // it takes read leases
	homes  atomic.Bool   // it wants to know homes of inodes
	over   chan struct{} // closed when the session has ended, here
	leave  func()        // closes over

	mu        sync.Mutex
	connected bool
	heard     time.Time                // when the mount was heard of last
	left      time.Time                // when its connection was lost; while not connected
	opens     map[twofold.Ino]int      // opens that it has to take back
	spared    map[twofold.Ino]struct{} // what it may have open: see Revoked
	back      time.Time                // since when it is heard of again, where anything is spared
	ended     bool
}

// BeginMount makes a session for a mount. node is the mount's procid; holder is
// called back for its leases.
func (v *Volume) BeginMount(ctx context.Context, node string, holder api.Holder) (*Session, error) {
	token := make([]byte, 32)
	rand.Read(token)
	seq := v.seqs.next()
	defer v.seqs.done(seq)
	res, err := v.Meta.Apply(ctx, &metadata.Command{
		Op: metadata.OpBeginSession, Now: v.now(),
		Body: metadata.BeginSession{Kind: metadata.SessionMount, Node: node, Secret: token, Nonce: twofold.NewUUID()},
	})
	if err != nil {
		return nil, err
	}
	s := v.addSession(twofold.SessionID(res.ID), token, node, holder, 0)
	v.log.Info("mount connected", "session", s.id, "node", node)
	return s, nil
}

// ResumeMount continues a session of which this process has no memory. Leases that
// were given to others meanwhile stay lost: what is flushed under them is refused.
func (v *Volume) ResumeMount(ctx context.Context, id twofold.SessionID, token []byte, held api.Held, holder api.Holder) (*Session, error) {
	var rec metadata.Session
	dirs := map[twofold.Ino]twofold.BucketID{} // that it holds leases of
	if err := v.Meta.View(ctx, func(w metadata.View) error {
		p, err := w.Session(id)
		if err != nil {
			return err
		}
		rec = *p
		for _, h := range held.Writes {
			if n, err := w.Inode(h.Ino); err == nil && n.Type == metadata.TypeDir {
				dirs[h.Ino] = n.Bucket
			} else if err != nil && !errs.Is(err, errs.Stale) {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if rec.Ended || rec.Kind != metadata.SessionMount || subtle.ConstantTimeCompare(rec.Secret, token) != 1 {
		return nil, errs.Newf("volume.ResumeMount", errs.Fenced, "session %d has ended", id)
	}
	s := v.addSession(id, rec.Secret, rec.Node, holder, held.Promised)
	for _, o := range held.Opens {
		if o.Count > 0 && v.opens.add(o.Ino, o.Count) {
			s.opens[o.Ino] += o.Count
		}
	}
	for _, w := range held.Writes {
		if rec.Lost(w.Token) { // an earlier server has given it to others
			v.log.Warn("a write lease was taken from a mount that was silent", "session", id, "inode", w.Ino)
			continue
		}
		b, dir := dirs[w.Ino]
		reclaim := v.leases.Reclaim
		if dir {
			reclaim = func(h lease.Holder, ino twofold.Ino, token uint64) error {
				return v.leases.ReclaimDir(h, b, ino, token)
			}
		}
		if err := reclaim(s, w.Ino, w.Token); err != nil {
			v.log.Warn("a write lease could not be resumed", "session", id, "inode", w.Ino, "err", err)
		}
	}
	v.locks.Restore(s, held.Locks, rec.LostLocks)
	v.dropNotes(s, &rec, held)
	v.mu.Lock()
	delete(v.expected, id)
	v.mu.Unlock()
	v.log.Info("mount is back", "session", id, "leases", len(held.Writes), "open", len(held.Opens), "locked", len(held.Locks))
	return s, nil
}

func (v *Volume) addSession(id twofold.SessionID, token []byte, node string, holder api.Holder, promised int64) *Session {
	s := &Session{
		v: v, id: id, token: token, node: node, holder: holder, over: make(chan struct{}),
		connected: true, heard: time.Now(), opens: map[twofold.Ino]int{}, spared: map[twofold.Ino]struct{}{},
	}
	s.leave = sync.OnceFunc(func() { close(s.over) })
	v.ledger.begin(id, promised)
	v.mu.Lock()
	v.sessions[id] = s
	v.mu.Unlock()
	return s
}

// ID is the session's number.
func (s *Session) ID() twofold.SessionID { return s.id }

// Token is what the mount shows to resume.
func (s *Session) Token() []byte { return s.token }

// Files serves the mount's calls.
func (s *Session) Files() api.Files { return s }

// LeaseTerm is how long the mount may be silent and keep its leases.
func (s *Session) LeaseTerm() time.Duration { return s.v.LeaseTerm }

// Done is closed when the session has ended, or goes on at another node.
func (s *Session) Done() <-chan struct{} { return s.over }

// Disconnected tells that the connection is lost.
func (s *Session) Disconnected() {
	s.mu.Lock()
	s.connected, s.left = false, time.Now()
	s.mu.Unlock()
}

// Alive tells that the mount was heard of. errs.Fenced when the session has ended.
func (s *Session) Alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errs.Newf("volume.Alive", errs.Fenced, "session %d has ended", s.id)
	}
	s.connected, s.heard = true, time.Now()
	switch {
	case len(s.spared) == 0:
		s.back = time.Time{}
	case s.back.IsZero():
		s.back = s.heard
	case s.heard.Sub(s.back) > spareFor:
		s.unspare()
	}
	return nil
}

// afterlife is for how long the kernel may go on to answer fstat(2), and the like, from what a
// mount told it to cache that is dead by now: a second (fusefs, maxTimeout), counted in jiffies.
const afterlife = 1200 * time.Millisecond

// Silent is how long nothing was heard of the mount; for ever, if its process is
// known to be dead, and its kernel has forgotten what it cached, or its session has ended.
func (s *Session) Silent() time.Duration {
	s.mu.Lock()
	d, ended := time.Since(s.heard), s.ended
	s.mu.Unlock()
	if ended || s.dead() {
		return math.MaxInt64
	}
	return d
}

// dead reports whether the mount's process is known to be dead, and its kernel has forgotten what
// it cached.
func (s *Session) dead() bool {
	s.mu.Lock()
	connected := s.connected
	late := !s.caches.Load() || time.Since(s.left) > afterlife
	s.mu.Unlock()
	return !connected && late && s.v.dead(s.node)
}

// Recall implements lease.Holder.
func (s *Session) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	return s.holder.Recall(ctx, ino, token)
}

// End ends the session: its leases and open files are given back. Where that can't be committed it
// has not ended, and keeps them.
func (s *Session) End(ctx context.Context) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil
	}
	s.ended = true
	s.mu.Unlock()

	// First the commit: until then the session's commands are good, and another server would
	// let the mount resume with all it holds.
	if _, err := s.v.commit(ctx, metadata.OpEndSession, metadata.EndSession{ID: s.id}); err != nil {
		s.mu.Lock()
		s.ended = false // it comes again, or is silent for long: see expire
		s.mu.Unlock()
		return err
	}
	s.mu.Lock()
	opens := s.opens
	s.opens = map[twofold.Ino]int{}
	s.unspare()
	s.mu.Unlock()
	err := s.v.forgetSession(ctx, s.id)
	s.v.mu.Lock()
	delete(s.v.sessions, s.id)
	s.v.mu.Unlock()
	s.v.leases.ReleaseAll(s.id)
	s.v.locks.End(s.id)
	s.v.ledger.end(s.id)
	for ino, n := range opens {
		s.v.opens.drop(ino, n)
	}
	s.leave()
	s.v.kick(s.v.kickReaper)
	return err
}

// grace waits for the mounts of before the start, for as long as they may believe in their leases,
// which is a term from since on, and then opens the lease table.
func (v *Volume) grace(since time.Time, term time.Duration) {
	defer v.wg.Done()
	start := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		v.mu.Lock()
		for id, node := range v.expected {
			if time.Since(start) > afterlife && v.dead(node) { // see Silent
				delete(v.expected, id)
				v.log.Info("a mount of before the restart is dead", "session", id, "node", node)
				v.background(func() { v.endUnknown(id) })
			}
		}
		left := len(v.expected)
		v.mu.Unlock()
		if left == 0 || time.Since(since) > term || plant.Is(plant.NoGrace) {
			if left > 0 {
				v.log.Warn("mounts of before the restart did not come back in time; what they have not flushed will be refused", "mounts", left)
			}
			v.leases.Ready()
			return
		}
		select {
		case <-tick.C:
		case <-v.ctx.Done():
			return
		}
	}
}

// dead reports whether a mount's process certainly runs no more. With several nodes that is known
// of those of this machine alone, and of this boot: machines that were made from one image may
// have one machine-id(5), and then another one's processes would pass for rebooted.
func (v *Volume) dead(node string) bool {
	if v.Options.Leads != nil {
		return procid.Gone(node)
	}
	return procid.Dead(node)
}

// endUnknown ends a session that this process has no Session of.
func (v *Volume) endUnknown(id twofold.SessionID) {
	if err := v.endSession(v.ctx, id); err != nil {
		v.log.Warn("session not ended", "session", id, "err", err)
	}
}

// endSession ends a session and forgets it: an unknown session is refused like an
// ended one.
func (v *Volume) endSession(ctx context.Context, id twofold.SessionID) error {
	if _, err := v.commit(ctx, metadata.OpEndSession, metadata.EndSession{ID: id}); err != nil {
		return err
	}
	return v.forgetSession(ctx, id)
}

// forgetSession removes the record and the kept results of an ended session.
func (v *Volume) forgetSession(ctx context.Context, id twofold.SessionID) error {
	for {
		res, err := v.commit(ctx, metadata.OpForgetSession, metadata.ForgetSession{ID: id})
		if err != nil || !res.More {
			return err
		}
	}
}

// expire ends sessions of mounts that are dead or were silent for too long.
func (v *Volume) expire(ctx context.Context) {
	v.mu.Lock()
	var late []*Session
	for _, s := range v.sessions {
		if s.Silent() > v.SessionTTL {
			late = append(late, s)
		}
	}
	var lost []twofold.SessionID // mounts of before the start that never came back
	if time.Since(v.began) > v.SessionTTL {
		for id := range v.expected {
			lost = append(lost, id)
			delete(v.expected, id)
		}
	}
	v.mu.Unlock()
	for _, id := range lost {
		v.endUnknown(id)
	}
	for _, s := range late {
		v.log.Warn("mount was not heard of; its session ends", "session", s.id, "node", s.node)
		if err := s.End(ctx); err != nil {
			v.log.Warn("session not ended", "session", s.id, "err", err)
		}
	}
}

// command applies a command that a mount's call asks for, under the call's number,
// so that it has its effect once. Calls made in this process have no number.
func (s *Session) command(ctx context.Context, op metadata.Op, body any) (*metadata.Result, error) {
	return s.commandGuarded(ctx, op, body, nil)
}

func (s *Session) commandGuarded(ctx context.Context, op metadata.Op, body any, guard []metadata.Target) (*metadata.Result, error) {
	seq, ok := api.SeqOf(ctx)
	if !ok {
		return s.v.commitGuarded(ctx, op, body, guard)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	return s.v.Meta.Apply(ctx, &metadata.Command{
		Op: op, Session: s.id, Seq: seq.N, Acked: seq.Acked,
		Writer: s.v.writer, Now: s.v.now(), Body: body, Guard: guard,
	})
}
