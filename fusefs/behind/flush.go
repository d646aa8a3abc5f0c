package behind

import (
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

const (
	flushAge   = 20 * time.Millisecond // the oldest operation waits for so long
	flushOps   = 256
	flushBytes = 1 << 20
	batchBytes = api.MaxIO / 2
	ripeAge    = 10 * time.Millisecond // for so long a new file is about to be written to

	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// flusher commits what is queued, one batch at a time, until the mount ends.
func (b *Files) flusher() {
	for b.due() {
		b.mu.Lock()
		sending := b.next()
		b.mu.Unlock()
		if sending != nil {
			b.commit(sending)
		}
	}
}

// due waits until something should be committed; false: the mount is at its end.
func (b *Files) due() bool {
	for {
		b.mu.Lock()
		q, wait := &b.queue, time.Hour
		if len(q.ops) > 0 {
			wait = time.Until(q.ops[0].at.Add(flushAge))
			if q.want >= q.ops[0].seq || len(q.ops) >= flushOps || q.bytes >= flushBytes {
				wait = 0
			}
		}
		b.mu.Unlock()
		if b.ctx.Err() != nil {
			return false
		}
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-b.kick:
		case <-timer.C:
		case <-b.ctx.Done():
		}
		timer.Stop()
	}
}

// sending is a batch on its way.
type sending struct {
	batch api.Batch
	ops   []*op
	last  uint64 // of the operations
	gen   uint64
	maybe bool // an attempt may have had its effect

	lacks []twofold.Ino // directories without a token
}

// next takes the front of the queue as a batch; b.mu is held.
func (b *Files) next() *sending {
	q := &b.queue
	s := &sending{gen: q.gen}
	made := make(map[twofold.Ino]bool)
	under := make(map[twofold.Ino]bool)
	bytes, inline := 0, 0
	for _, o := range q.ops[:b.ripe()] {
		bytes, inline = bytes+o.bytes, inline+o.inline
		if len(s.ops) > 0 && (len(s.ops) >= q.maxOps || bytes > batchBytes || inline > api.MaxBatchInline) {
			break
		}
		is := o.is
		switch {
		case is.Create != nil:
			made[is.Create.Ino] = true
			c := *is.Create
			c.Lease = b.wantsLease(c.Ino)
			is.Create = &c
		case is.Write != nil:
			w := *is.Write
			if l := b.leases[w.Ino]; l != nil && !made[w.Ino] {
				w.Token = l.real
			}
			is.Write = &w
		}
		for _, dir := range o.dirs {
			if made[dir] || under[dir] {
				continue
			}
			under[dir] = true
			h := api.HeldWrite{Ino: dir}
			if d := b.dirs[dir]; d != nil {
				h.Token = d.token
			}
			if h.Token == 0 {
				s.lacks = append(s.lacks, dir)
			}
			s.batch.Dirs = append(s.batch.Dirs, h)
		}
		s.ops = append(s.ops, o)
		s.batch.Ops = append(s.batch.Ops, is)
	}
	if len(s.ops) == 0 {
		return nil
	}
	s.last = s.ops[len(s.ops)-1].seq
	q.sent = max(q.sent, s.last)
	q.unread, q.unsure = make(map[twofold.Ino]struct{}), false
	return s
}

// ripe is how many operations may be sent. A file that was made just now is about to be
// written to: where nobody waits for it, it goes with the next batch, and its write lease
// costs neither a call nor a wait for this one. b.mu is held.
func (b *Files) ripe() int {
	q, n := &b.queue, len(b.queue.ops)
	young := time.Now().Add(-ripeAge)
	for i := n - 1; i > 0 && q.ops[i].at.After(young) && q.ops[i].seq > q.want; i-- {
		c := q.ops[i].is.Create
		if c == nil || c.Type != metadata.TypeFile {
			continue
		}
		if in := b.inodes[c.Ino]; in != nil && in.attr.Version == 1 {
			n = i
		}
	}
	return n
}

// wantsLease reports whether an inode's write lease is asked for with what makes it: that of
// each directory, that of a file if it is written to at the moment. b.mu is held.
func (b *Files) wantsLease(ino twofold.Ino) bool {
	if l := b.leases[ino]; l != nil {
		l.asked = l.asked || l.local != 0
		return l.asked
	}
	return b.dirs[ino] != nil
}

// commit sends a batch until its outcome is known.
func (b *Files) commit(s *sending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := &b.queue
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		var r api.BatchResult
		err := b.complete(s)
		if err == nil {
			q.sending = true
			b.call(func() { r, err = b.to.Batch(b.ctx, s.batch) })
			q.sending = false
		}
		if q.gen != s.gen || b.ctx.Err() != nil {
			return // everything is lost meanwhile, and told
		}
		if err == nil {
			q.failing, q.maxOps = nil, min(2*q.maxOps, api.MaxBatchOps)
			b.committed(s, &r)
			return
		}
		b.log.Warn("a batch of changes failed", "operations", len(s.ops), "failed", r.Failed, "err", err)
		switch outcomeOf(err) {
		case again:
			s.maybe = s.maybe || errs.Is(err, errs.UnknownOutcome)
		case maybe:
			q.failing = err
			q.failures++
			b.broadcast()
		case never:
			switch {
			case s.maybe && errs.Is(err, errs.Conflict) && s.repeats(r.Failed):
				b.committedBefore(s)
			case errs.Is(err, errs.Fenced):
				b.lose(err, false)
			case len(s.ops) > 1 && (r.Failed < 0 || r.Failed >= len(s.ops) || errs.Is(err, errs.TooLarge)):
				q.maxOps = max(1, len(s.ops)/2)
			case len(s.ops) > 1:
				b.refused(s.ops[r.Failed], err)
			default:
				b.refused(s.ops[0], err)
			}
			return // what is left is sent as another batch
		}
		b.call(func() {
			select {
			case <-time.After(pause):
			case <-b.ctx.Done():
			}
		})
		if q.gen != s.gen || b.ctx.Err() != nil {
			return
		}
	}
}

// repeats reports whether the i-th operation is the first that can't be done twice: where that
// is refused, the whole batch has been committed before.
func (s *sending) repeats(i int) bool {
	if i < 0 || i >= len(s.ops) {
		return false
	}
	for _, o := range s.ops[:i] {
		if o.is.Write == nil && o.is.SetAttr == nil {
			return false
		}
	}
	return true
}

// complete asks for the tokens of directories that were made in an earlier batch and came
// without; b.mu is held, but not meanwhile.
func (b *Files) complete(s *sending) error {
	for len(s.lacks) > 0 {
		var l api.DirLease
		var err error
		dir := s.lacks[0]
		b.call(func() { l, err = b.to.AcquireDir(b.ctx, dir) })
		if err != nil && outcomeOf(err) != never {
			return err
		}
		if d := b.dirs[dir]; err == nil && d != nil && b.queue.gen == s.gen {
			d.token = l.Token
			if d.state == dirBorn {
				d.state = dirHeld
			}
			b.close(d) // others may have been there in between
		}
		for i := range s.batch.Dirs {
			if s.batch.Dirs[i].Ino == dir {
				s.batch.Dirs[i].Token = l.Token // or 0: the batch will be refused
			}
		}
		s.lacks = s.lacks[1:]
	}
	return nil
}
