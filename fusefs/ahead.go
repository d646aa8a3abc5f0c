package fusefs

import (
	"context"
	"sync"

	"twofold"
	"twofold/volume/api"
)

// The kernel does not read ahead in direct I/O, so the mount does, for handles that
// are read in sequence. What was read ahead is used only if the volume says, when it
// is asked for, that the file still has the version that it had before the bytes
// were read: so they are those of that moment, whoever may have changed the file
// meanwhile. Under a read lease the mount knows that itself; else the question costs a
// round trip, but no drive, and no bytes. Under the mount's own write lease nothing is
// read ahead.
const (
	aheadPiece  = 1 << 20   // most bytes of one read
	aheadLeast  = 128 << 10 // and least, where the file has as many
	aheadWindow = 4 << 20   // most bytes that one handle is ahead
)

// ahead is what was read ahead for one handle. Its methods may be called on nil.
type ahead struct {
	f   *fsys
	ino twofold.Ino

	mu     sync.Mutex // guards what follows, and the pieces
	next   int64      // where a read in sequence goes on
	run    int64      // bytes that were read in sequence before next
	reads  int        // and in how many reads
	asking bool       // a goroutine asks for the version
	closed bool
	size   int64    // of the file, when pieces were asked for last
	pieces []*piece // each behind the one before
}

// piece is one read ahead of its time.
type piece struct {
	off, len int64
	version  uint64 // of the file before it was read
	done     chan struct{}
	stop     context.CancelFunc

	data    []byte // once done
	err     error  // once done
	over    bool   // done
	dropped bool   // nobody shall use it
}

func (p *piece) end() int64 { return p.off + p.len }

// read is api.Files.Read of the file, for a mount that does not hold its lease.
func (a *ahead) read(ctx context.Context, off int64, b []byte) (int, error) {
	if n, ok := a.serve(ctx, off, b); ok {
		return n, nil
	}
	n, err := a.f.files.Read(ctx, a.ino, off, b)
	if err == nil && n == len(b) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.advance(off, int64(n))
		a.ask()
	}
	return n, err
}

// serve fills b from pieces, if they are there and of the present version.
func (a *ahead) serve(ctx context.Context, off int64, b []byte) (n int, ok bool) {
	parts := a.covering(off, int64(len(b)))
	if parts == nil {
		return 0, false
	}
	for _, p := range parts {
		select {
		case <-p.done:
		case <-ctx.Done():
			return 0, false
		}
	}
	// Not before they are all here: what is true now must be true of them.
	attr, err := a.f.files.GetAttr(ctx, a.ino)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		return 0, false
	}
	b = b[:max(0, min(int64(len(b)), attr.Size-off))]
	for _, p := range parts {
		if p.dropped || p.err != nil || p.version != attr.Version {
			a.drop()
			return 0, false
		}
		if at := off + int64(n) - p.off; n < len(b) && at >= 0 && at < int64(len(p.data)) {
			n += copy(b[n:], p.data[at:])
		}
	}
	if n < len(b) {
		a.drop()
		return 0, false
	}
	a.advance(off, int64(n))
	a.extend(attr)
	return n, true
}

// covering returns the pieces that have all of the file that is in a range, nil
// where there are not all.
func (a *ahead) covering(off, length int64) []*piece {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := len(a.pieces)
	if k == 0 || off < a.pieces[0].off || a.pieces[k-1].end() < min(off+length, a.size) || off >= a.pieces[k-1].end() {
		return nil
	}
	var parts []*piece
	for _, p := range a.pieces {
		if p.end() > off && p.off < off+length {
			parts = append(parts, p)
		}
	}
	return parts
}

// advance notes a read; a.mu is held. One that is not in sequence, nor near it, as
// several at once are, begins a new one.
func (a *ahead) advance(off, n int64) {
	if off != a.next && (len(a.pieces) == 0 || off < a.pieces[0].off || off > a.pieces[len(a.pieces)-1].end()) {
		a.drop()
		a.next = off
	}
	a.run += n
	a.reads++
	a.next = max(a.next, off+n)
	done := 0
	for done < len(a.pieces) && a.pieces[done].end() <= a.next {
		a.release(a.pieces[done])
		done++
	}
	a.pieces = a.pieces[done:]
}

// ask gets the version that pieces are to be of, and goes on reading. a.mu is held.
func (a *ahead) ask() {
	if a.reads < 2 || a.asking || a.closed {
		return
	}
	a.asking = true
	go func() {
		attr, err := a.f.files.GetAttr(a.f.ctx, a.ino)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asking = false
		if err == nil {
			a.extend(attr)
		}
	}()
}

// extend starts reads up to the window's end, of a file that had attr a moment ago.
// a.mu is held.
func (a *ahead) extend(attr api.Attr) {
	window := min(aheadWindow, 2*a.run)
	from := a.next
	if k := len(a.pieces); k > 0 {
		from = a.pieces[k-1].end()
	}
	if a.closed || a.reads < 2 || from-a.next > window/2 {
		return
	}
	a.size = attr.Size
	length := max(aheadLeast, min(aheadPiece, window/2))
	for from < min(a.next+window, a.size) {
		p := &piece{off: from, len: min(length, a.size-from), version: attr.Version, done: make(chan struct{})}
		if !a.f.aheads.take(a, p.len) {
			return
		}
		var ctx context.Context
		ctx, p.stop = context.WithCancel(a.f.ctx)
		a.pieces = append(a.pieces, p)
		from = p.end()
		go a.fill(ctx, p)
	}
}

func (a *ahead) fill(ctx context.Context, p *piece) {
	defer p.stop()
	b := make([]byte, p.len)
	n, err := a.f.files.Read(ctx, a.ino, p.off, b)
	a.mu.Lock()
	defer a.mu.Unlock()
	p.data, p.err, p.over = b[:n], err, true
	close(p.done)
	if p.dropped {
		a.f.aheads.give(p.len)
	}
}

// release ends the use of a piece; a.mu is held.
func (a *ahead) release(p *piece) {
	if p.dropped {
		return
	}
	p.dropped = true
	p.stop()
	if p.over {
		a.f.aheads.give(p.len)
	}
}

// drop forgets everything that was read ahead, and the sequence; a.mu is held.
func (a *ahead) drop() {
	for _, p := range a.pieces {
		a.release(p)
	}
	a.pieces, a.run, a.reads = nil, 0, 0
}

// forget is drop for those without a.mu.
func (a *ahead) forget() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
}

// close ends the handle.
func (a *ahead) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.drop()
	a.f.aheads.gone(a)
}

// aheadPool bounds what all handles of a mount have read ahead.
type aheadPool struct {
	max int64 // bytes

	mu   sync.Mutex
	used int64
	tick uint64
	last map[*ahead]uint64 // when each took something last
}

// take reserves n bytes for a, if need be from the handle that has read nothing for
// longest. It reports whether it could. a.mu is held; others' are only tried.
func (b *aheadPool) take(a *ahead, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used+n > b.max {
		oldest := b.oldest(a)
		if oldest == nil {
			return false
		}
		delete(b.last, oldest)
		if oldest.mu.TryLock() {
			b.mu.Unlock() // drop gives the bytes back
			oldest.drop()
			oldest.mu.Unlock()
			b.mu.Lock()
		}
	}
	b.used += n
	b.tick++
	b.last[a] = b.tick
	return true
}

// oldest is the handle other than a that took something longest ago; b.mu is held.
func (b *aheadPool) oldest(a *ahead) (found *ahead) {
	for o, t := range b.last {
		if o != a && (found == nil || t < b.last[found]) {
			found = o
		}
	}
	return found
}

func (b *aheadPool) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

func (b *aheadPool) gone(a *ahead) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, a)
}

func (b *aheadPool) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}
