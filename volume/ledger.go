package volume

import (
	"context"
	"io"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// ledger keeps account of the store's free space, in bytes of content: what is
// promised to mounts for bytes that they hold unwritten, and what writes under way
// will take. Both are refused as soon as the drives have not got the space, so that
// a write that was let in does not meet full drives. Safe for concurrent use.
//
// The drives are not asked for each write: between two measurements what was written
// meanwhile is counted. A refusal is always by a measurement made for it.
//
// It is memory of the server's process. After a restart each mount says what it was
// promised, and nobody gets what may be theirs before (see Volume.claim).
type ledger struct {
	measure func(context.Context) (uint64, error) // Placer.Room
	looking chan struct{}                         // has one element while somebody measures

	mu       sync.Mutex
	room     int64     // of the last measurement
	at       time.Time // when that began
	base     int64     // spent, then
	spent    int64     // bytes that have been written, ever; they may be in room or not if behind base
	claimed  int64     // of writes under way
	promises map[twofold.SessionID]int64
	promised int64 // their sum
}

const (
	roomAge    = time.Second      // a measurement is good for
	roomAgeMax = 10 * time.Second // where there is plenty
	plenty     = 4 << 30          // bytes

	// leastGrant and a quarter of what is free bound a promise, so that the last
	// bytes are not promised to one mount that asked for more than it needs.
	leastGrant = 1 << 20

	// claimLag is how far the drives may be behind what was read of a body: buffers of
	// the engine and of the drives.
	claimLag = 128 << 20
)

func newLedger(measure func(context.Context) (uint64, error)) *ledger {
	return &ledger{measure: measure, looking: make(chan struct{}, 1), promises: map[twofold.SessionID]int64{}}
}

// free is what is neither promised nor claimed nor used; l.mu is held.
func (l *ledger) free() int64 {
	return l.room - (l.spent - l.base) - l.promised - l.claimed
}

// try runs fn with the free space and l.mu held until it reports that it has taken
// what it wants, or a measurement of after the call does not give it either:
// errs.NoSpace. fn must leave at least what it does not take alone. errs.Canceled;
// errors of the measurement.
func (l *ledger) try(ctx context.Context, fn func(free int64) bool) error {
	began := time.Now()
	for {
		l.mu.Lock()
		age := time.Since(l.at)
		fresh := l.at.After(began)
		usable := fresh || age < roomAge || age < roomAgeMax && l.free() > plenty
		if usable && fn(l.free()) {
			l.mu.Unlock()
			if age >= roomAge && !fresh {
				go l.look(context.Background(), began)
			}
			return nil
		}
		l.mu.Unlock()
		if fresh {
			return errs.Newf("volume.space", errs.NoSpace, "the drives are full, or what is free is promised to mounts")
		}
		if err := l.look(ctx, began); err != nil {
			return err
		}
	}
}

// look measures, unless somebody has since the moment.
func (l *ledger) look(ctx context.Context, since time.Time) error {
	select {
	case l.looking <- struct{}{}:
	case <-ctx.Done():
		return errs.E("volume.space", errs.Canceled, ctx.Err())
	}
	defer func() { <-l.looking }()
	l.mu.Lock()
	done, base := l.at.After(since), l.spent
	l.mu.Unlock()
	if done {
		return nil
	}
	at := time.Now()
	room, err := l.measure(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.room, l.at, l.base = int64(min(room, 1<<62)), at, base
	l.mu.Unlock()
	return nil
}

// begin lets a session have promises.
func (l *ledger) begin(id twofold.SessionID, promised int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised += promised - l.promises[id]
	l.promises[id] = promised
}

// end takes a session's promise back, and there will be no other.
func (l *ledger) end(id twofold.SessionID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.promised -= l.promises[id]
	delete(l.promises, id)
}

// promise adds up to n bytes to what the session was promised, and returns how many:
// fewer when little is free, and where it would have more than api.MaxPromise.
// errs.NoSpace where there is none; errs.Fenced after the session's end.
func (l *ledger) promise(ctx context.Context, id twofold.SessionID, n int64) (granted int64, err error) {
	known := true
	err = l.try(ctx, func(free int64) bool {
		var has int64
		if has, known = l.promises[id]; !known {
			return true
		}
		granted = min(n, api.MaxPromise-has, max(free/4, leastGrant), free)
		if granted <= 0 {
			return false
		}
		l.promises[id] += granted
		l.promised += granted
		return true
	})
	if err != nil {
		return 0, err
	}
	if !known {
		return 0, errs.Newf("volume.Promise", errs.Fenced, "session %d has ended", id)
	}
	return granted, nil
}

// unpromise takes all back that the session was promised and has not used.
func (l *ledger) unpromise(id twofold.SessionID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n, ok := l.promises[id]; ok {
		l.promised -= n
		l.promises[id] = 0
	}
}

// claim is the space of one write under way.
type claim struct {
	l    *ledger
	id   twofold.SessionID // whose promise it was taken from
	from int64             // how much of it
	left int64             // bytes not yet counted as written; l.mu
	read int64             // of a body
}

// claim takes n bytes for a write: of id's promise what there is, and the rest where
// it leaves keep bytes. errs.NoSpace. The caller calls done.
func (l *ledger) claim(ctx context.Context, id twofold.SessionID, n, keep int64) (*claim, error) {
	c := &claim{l: l, id: id, left: n}
	l.mu.Lock()
	c.from = min(n, l.promises[id]) // 0 where there is no session
	if c.from == n {
		l.move(c)
		l.mu.Unlock()
		return c, nil
	}
	l.mu.Unlock()
	err := l.try(ctx, func(free int64) bool {
		c.from = min(n, l.promises[id])
		if free < n-c.from+keep {
			return false
		}
		l.move(c)
		return true
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// move turns promise into claim; l.mu is held.
func (l *ledger) move(c *claim) {
	if c.from > 0 {
		l.promises[c.id] -= c.from
		l.promised -= c.from
	}
	l.claimed += c.left
}

// done ends the claim: err is what became of the write. What was promised is promised
// again if it failed: the mount still holds the bytes.
func (c *claim) done(err error) {
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimed -= c.left
	if err == nil {
		l.spent += c.left
	} else if _, ok := l.promises[c.id]; ok {
		l.promises[c.id] += c.from
		l.promised += c.from
	}
	c.left = 0
}

// reader counts what is read of a body as written, some way behind: what a large PUT
// has written is not free any more, and must not count twice.
func (c *claim) reader(r io.Reader) io.Reader { return &claimReader{c, r} }

type claimReader struct {
	c *claim
	r io.Reader
}

func (r *claimReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	c := r.c
	if c.read += int64(n); c.read > claimLag+leastGrant {
		c.l.mu.Lock()
		k := min(c.read-claimLag, c.left)
		c.left -= k
		c.l.claimed -= k
		c.l.spent += k
		c.l.mu.Unlock()
		c.read -= k
	}
	return n, err
}

// claim takes n bytes for a write, see ledger.claim; session 0 is nobody's. While
// mounts of before the start are not back, what may be promised to them is left
// alone: where that matters it waits for them, a lease term at most.
func (v *Volume) claim(ctx context.Context, id twofold.SessionID, n int64) (*claim, error) {
	if !v.leases.IsReady() {
		v.mu.Lock()
		keep := int64(len(v.expected)) * api.MaxPromise
		v.mu.Unlock()
		c, err := v.ledger.claim(ctx, id, n, keep)
		if !errs.Is(err, errs.NoSpace) {
			return c, err
		}
		if err := v.leases.Await(ctx); err != nil {
			return nil, err
		}
	}
	return v.ledger.claim(ctx, id, n, 0)
}

// Promise implements api.Files.
func (s *Session) Promise(ctx context.Context, n int64) (int64, error) {
	if n == 0 {
		s.v.ledger.unpromise(s.id)
		return 0, nil
	}
	if err := s.v.leases.Await(ctx); err != nil {
		return 0, err
	}
	if err := s.v.Placer.Writable(); err != nil {
		return 0, err
	}
	return s.v.ledger.promise(ctx, s.id, n)
}
