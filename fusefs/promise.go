package fusefs

import (
	"context"
	"time"

	"twofold/internal/errs"
)

// promise is what the store keeps free for the bytes that this mount holds unwritten
// (api.Files.Promise). A write(2) is let in when its bytes are covered, so that its
// flush has the space; where the store has none it is refused at once, ENOSPC, with
// nothing taken. It is asked for in pieces of many writes, used up by flushes, and
// given back when nothing was dirty for a while.
//
// A page that a mapping has stored into cannot be refused: it is counted, more is asked
// for, and where there is none it is flushed at once. That may fail as it always could,
// which msync(2), fsync(2) and close(2) report.
type promise struct {
	bytes  int64     // less than zero where more was flushed than was promised
	asking *asking   // a call that is under way
	idle   time.Time // since when nothing is dirty, if nothing is
	gen    int       // of the session
	none   bool      // the server knows of no promises: it is an older one
}

// asking is one call that any number of writes wait for.
type asking struct {
	done chan struct{}
	err  error // set before done is closed
}

const (
	promisePiece = 64 << 20        // bytes asked for at a time
	idlePromise  = 5 * time.Second // what is not needed for so long is given back
)

// covers reports whether n more bytes would be covered; b.mu is held.
func (b *budget) covers(n int64) bool {
	return b.promise.none || b.used+n <= b.promise.bytes
}

// forgetPromise tells that the session is over, and its promise.
func (b *budget) forgetPromise() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.promise.bytes = 0
	b.promise.gen++
}

// awaitPromise returns when n more bytes are covered. errs.NoSpace where the store has
// not got them; errs.Canceled.
func (f *fsys) awaitPromise(ctx context.Context, n int64) error {
	b := &f.budget
	for {
		b.mu.Lock()
		if b.covers(n) {
			b.mu.Unlock()
			return nil
		}
		a := f.ask(n)
		b.mu.Unlock()
		select {
		case <-a.done:
		case <-ctx.Done():
			return canceled("write", ctx)
		}
		if a.err != nil {
			return a.err
		}
	}
}

// cover asks for what mapped pages have taken without being covered.
func (f *fsys) cover() {
	b := &f.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.covers(0) {
		f.ask(0)
	}
}

// ask starts to ask for the promise of n more bytes, if no call is under way, and
// returns the one that is; budget.mu is held.
func (f *fsys) ask(n int64) *asking {
	p := &f.budget.promise
	if p.asking == nil {
		p.asking = &asking{done: make(chan struct{})}
		go f.askFor(p.asking, max(promisePiece, f.budget.used+n-p.bytes), p.gen)
	}
	return p.asking
}

// askFor is the call. It goes on when the write that wanted it is interrupted: a grant
// must not get lost.
func (f *fsys) askFor(a *asking, n int64, gen int) {
	granted, err := f.files.Promise(f.ctx, n)
	switch errs.KindOf(err) {
	case errs.UnknownOutcome, errs.Fenced: // the session was lost, and a new one begins
		if sleep(f.ctx, firstPause) {
			err = nil
		}
	}
	b := &f.budget
	b.mu.Lock()
	p := &b.promise
	switch {
	case errs.Is(err, errs.Unsupported):
		p.none, err = true, nil
	case err == nil && p.gen == gen:
		p.bytes += granted
	}
	if b.used == 0 {
		p.idle = time.Now()
	}
	p.asking = nil
	a.err = err
	uncovered := !b.covers(0)
	b.mu.Unlock()
	close(a.done)
	if err != nil && uncovered {
		f.flushBefore(time.Now())
	}
}

// returnPromise gives the promise back if nothing has been dirty since t. Writes that
// come meanwhile wait for the call, and ask again.
func (f *fsys) returnPromise(t time.Time) {
	b := &f.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &b.promise
	if b.used != 0 || p.bytes == 0 || p.asking != nil || !p.idle.Before(t) {
		return
	}
	p.bytes = 0
	if p.none {
		return
	}
	a := &asking{done: make(chan struct{})}
	p.asking = a
	go func() {
		if _, err := f.files.Promise(f.ctx, 0); err != nil {
			f.log.Debug("a promise of space was not given back", "err", err)
		}
		b.mu.Lock()
		p.asking = nil
		b.mu.Unlock()
		close(a.done)
	}()
}
