package drives

import (
	"context"
	"sync"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// reader reads one shard. The content of a small one is here from the start.
type reader struct {
	d     *Remote
	info  drive.ShardInfo
	all   []byte // the whole content, or nil
	ahead ahead

	mu     sync.Mutex
	id     handle // guarded by mu; at the server
	closed bool   // guarded by mu
}

var _ drive.ShardReader = (*reader)(nil)

// Open opens a shard for reading, see drive.Drive.
func (d *Remote) Open(ctx context.Context, b twofold.BlobID) (drive.ShardReader, error) {
	r := &reader{d: d}
	var err error
	if r.info, r.id, r.all, err = d.open(ctx, b, maxSmall); err != nil {
		return nil, err
	}
	r.ahead.init(r)
	return r, nil
}

// Stat describes a shard, see drive.Drive.
func (d *Remote) Stat(ctx context.Context, b twofold.BlobID) (drive.ShardInfo, error) {
	i, _, err := d.describe(ctx, b, 0, 0)
	return i, err
}

// open has a shard opened, and returns its description and its handle; or its content,
// where that is at most small bytes.
func (d *Remote) open(ctx context.Context, b twofold.BlobID, small int) (drive.ShardInfo, handle, []byte, error) {
	for try := 0; ; try++ {
		id := d.n.newHandle()
		i, all, err := d.describe(ctx, b, id, small)
		if err == nil {
			return i, id, all, nil
		}
		if !errs.Is(err, errs.NotFound) {
			d.n.closer.add(id) // it may have been opened
		}
		if try > 0 || !isTorn(err) {
			return drive.ShardInfo{}, 0, nil, err
		}
	}
}

// describe asks for a shard's description, and where id is not 0 has it opened under that
// handle, or brings all its content where that is at most small bytes.
func (d *Remote) describe(ctx context.Context, b twofold.BlobID, id handle, small int) (i drive.ShardInfo, all []byte, err error) {
	const op = "drives.Open"
	if ctx.Err() == nil && d.State() == drive.Offline {
		return i, nil, d.offline(op)
	}
	var a openAnswer
	c := d.call(op, mOpen, &openRequest{Drive: d.id, Blob: b, Reader: id, Small: uint32(small)}, &a)
	if small > 0 {
		c.into = buffers.get(small)
	}
	if err := d.do(ctx, d.n.opt.Deadline, c); err != nil {
		return i, nil, err
	}
	defer buffers.put(c.into)
	i, err = a.info(b, d.cluster(), c.got)
	if err == nil && a.All && small == 0 {
		err = invalid("content that was not asked for")
	}
	if err != nil {
		return i, nil, &errs.Error{Op: op, Kind: errs.KindOf(err), Msg: d.name, Err: err}
	}
	if a.All {
		all = append(make([]byte, 0, c.got), c.into[:c.got]...)
	}
	return i, all, nil
}

// Info describes the shard.
func (r *reader) Info() drive.ShardInfo { return r.info }

// blockLen is the length of block i; 0 where there is none.
func (r *reader) blockLen(i int64) int {
	if i < 0 {
		return 0
	}
	return int(drive.BlockLen(r.info.Header, r.info.Trailer.Size, i))
}

// ReadBlocks reads blocks, see drive.ShardReader. Blocks behind the end are left out.
func (r *reader) ReadBlocks(ctx context.Context, first, n int64, p []byte) (int, error) {
	const op = "drives.ReadBlocks"
	h, size := r.info.Header, r.info.Trailer.Size
	blocks := drive.Blocks(h, size)
	if first < 0 || n < 0 || first > blocks || r.isClosed() {
		return 0, errs.Newf(op, errs.Invalid, "%d blocks from block %d of %d", n, first, blocks)
	}
	n = min(n, blocks-first)
	if n == 0 {
		return 0, nil
	}
	if want := (n-1)*drive.BlockLen(h, size, 0) + drive.BlockLen(h, size, first+n-1); int64(len(p)) < want {
		return 0, errs.Newf(op, errs.Invalid, "%d bytes of room for %d bytes of blocks", len(p), want)
	}
	got := 0
	for i := first; i < first+n; i++ {
		data, release, err := r.LendBlock(ctx, i, 0, r.blockLen(i))
		if err != nil {
			return got, err
		}
		got += copy(p[got:], data)
		release()
	}
	return got, nil
}

// LendBlock lends bytes of a block, see drive.ShardReader: from memory, or from what was
// read ahead, or else by a call.
func (r *reader) LendBlock(ctx context.Context, i int64, from, to int) (p []byte, release func(), err error) {
	const op = "drives.LendBlock"
	if i < 0 || from < 0 || from >= to || to > r.blockLen(i) || r.isClosed() {
		return nil, nil, errs.Newf(op, errs.Invalid, "[%d, %d) of block %d", from, to, i)
	}
	if r.all != nil {
		return r.kept(i)[from:to], func() {}, nil
	}
	whole := from == 0 && to == r.blockLen(i)
	if whole {
		if buf := r.ahead.take(ctx, i); buf != nil {
			return buf, func() { buffers.put(buf) }, nil
		}
	}
	buf, err := r.fetch(ctx, i, from, to)
	if err != nil {
		return nil, nil, err
	}
	if whole {
		r.ahead.seen(i)
	}
	return buf, func() { buffers.put(buf) }, nil
}

// kept is a block of a shard that is here.
func (r *reader) kept(i int64) []byte {
	at := i * int64(r.blockLen(0))
	return r.all[at : at+int64(r.blockLen(i))]
}

// ReadNow reads what is in memory here, see drive.ShardReader.
func (r *reader) ReadNow(i int64, from int, p []byte) bool {
	to := from + len(p)
	if i < 0 || from < 0 || from >= to || to > r.blockLen(i) || r.isClosed() {
		return false
	}
	if r.all != nil {
		copy(p, r.kept(i)[from:to])
		return true
	}
	return r.ahead.copy(i, from, p)
}

// fetch reads bytes of a block from the server, into a buffer that the caller puts back. A
// shard that is not open there any more is opened again, once.
func (r *reader) fetch(ctx context.Context, i int64, from, to int) ([]byte, error) {
	const op = "drives.LendBlock"
	for try := 0; ; try++ {
		id := r.handle()
		c := r.d.call(op, mRead, &readRequest{Reader: id, Block: i, From: uint32(from), To: uint32(to)}, nil)
		c.into = buffers.get(to - from)
		err := r.d.do(ctx, r.d.n.opt.Deadline, c)
		switch {
		case err == nil && c.got == to-from:
			return c.into, nil
		case err == nil:
			got := c.got
			buffers.put(c.into)
			return nil, errs.Newf(op, errs.Invalid, "%s: %d bytes of a block where %d were asked for", r.d, got, to-from)
		case !errs.Is(err, errs.Stale):
			return nil, err
		case try > 0:
			return nil, errs.E(op, errs.Unavailable, err)
		}
		if err := r.reopen(ctx, id); err != nil {
			return nil, err
		}
	}
}

// reopen opens the shard again where handle old was closed by the server, or lost with the
// connection. A blob never changes, so a shard of the same place of the same coding has
// the same content.
func (r *reader) reopen(ctx context.Context, old handle) error {
	if r.handle() != old {
		return nil // somebody did
	}
	i, id, _, err := r.d.open(ctx, r.info.Header.Blob, 0)
	if err != nil {
		return err
	}
	was, is := r.info.Header, i.Header
	was.Created, was.Piece, is.Created, is.Piece = 0, 0, 0, 0 // a shard that was rebuilt has its own
	same := was == is && i.Trailer.Size == r.info.Trailer.Size
	r.mu.Lock()
	took := same && r.id == old && !r.closed
	if took {
		r.id = id
	}
	r.mu.Unlock()
	if !took {
		r.d.n.closer.add(id)
	}
	if !same {
		return errs.Newf("drives.Open", errs.Unavailable, "%s has another shard of blob %s than before", r.d, was.Blob)
	}
	return nil
}

func (r *reader) handle() handle {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

func (r *reader) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close lets go of the shard. It waits for nothing.
func (r *reader) Close() error {
	r.mu.Lock()
	first, id := !r.closed, r.id
	r.closed = true
	r.mu.Unlock()
	if first {
		r.ahead.close()
		if r.all == nil {
			r.d.n.closer.add(id)
		}
	}
	return nil
}
