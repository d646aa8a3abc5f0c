package drive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// reader reads one shard. A small shard is in memory from the start, and needs no
// I/O and no open file any more.
type reader struct {
	d      *Local
	info   ShardInfo
	all    []byte   // the whole file, or nil
	f      vfs.File // nil with all
	closed atomic.Bool
}

var (
	_ ShardReader = (*reader)(nil)
	_ BlockLender = (*reader)(nil)
)

// Open opens a shard for reading, see Drive.
func (d *Local) Open(ctx context.Context, b twofold.BlobID) (ShardReader, error) {
	const op = "drive.Open"
	r := &reader{d: d}
	err := d.guard.run(ctx, op, d.opt.Deadline,
		func() error { return r.open(op, b) },
		func() { r.Close() })
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Stat describes a shard, see Drive.
func (d *Local) Stat(ctx context.Context, b twofold.BlobID) (ShardInfo, error) {
	r, err := d.Open(ctx, b)
	if err != nil {
		return ShardInfo{}, err
	}
	return r.Info(), r.Close()
}

// open is a task: it reads head and tail of the file.
func (r *reader) open(op string, b twofold.BlobID) error {
	d := r.d
	name, _, _ := d.blobPath(b)
	f, err := d.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.still(op); err != nil {
			return err
		}
		return errs.Newf(op, errs.NotFound, "no shard of blob %s on %s", b, d)
	}
	if err != nil {
		return r.readError(op, err)
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return r.readError(op, err)
	}
	var head, tail []byte
	if st.Size <= smallBuf {
		r.all = make([]byte, st.Size)
		head, tail = r.all, r.all
		err = readFull(f, r.all, 0)
	} else {
		head, tail = make([]byte, headerLen), make([]byte, maxTail)
		if err = readFull(f, head, 0); err == nil {
			err = readFull(f, tail, st.Size-maxTail)
		}
		r.f, keep = f, err == nil
	}
	if err == nil {
		err = r.parse(head, tail, st.Size, b)
	}
	if err != nil {
		keep = false
		return r.readError(op, err)
	}
	return nil
}

// parse checks the records. Its errors say what is wrong, and are errs.Corrupt.
func (r *reader) parse(head, tail []byte, size int64, b twofold.BlobID) error {
	h, err := parseHeader(head)
	if err == nil && (h.Blob != b || h.Cluster != r.d.format.Cluster) {
		err = errors.New("it is a shard of blob " + h.Blob.String() + ", cluster " + h.Cluster.String())
	}
	var t ShardTrailer
	if err == nil {
		t, err = parseTail(tail, size, &h)
	}
	if err != nil {
		return &errs.Error{Op: "drive.Open", Kind: errs.Corrupt, Msg: "shard of blob " + b.String() + " on " + r.d.String(), Err: err}
	}
	r.info = ShardInfo{Header: h, Trailer: t, Bytes: size}
	return nil
}

// readFull is ReadAt of all of p; a file that is shorter is io.ErrUnexpectedEOF.
func readFull(f vfs.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readError classifies what went wrong with reading a shard: where the medium does
// not give the bytes, or too few of them, the shard is as good as corrupt, and is to
// be rebuilt like one.
func (r *reader) readError(op string, err error) error {
	failed := r.d.fail(op, err)
	switch vfs.Errno(err) {
	case syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, syscall.EILSEQ, syscall.EREMOTEIO:
		return errs.E(op, errs.Corrupt, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.E(op, errs.Corrupt, err)
	}
	return failed
}

// Info describes the shard.
func (r *reader) Info() ShardInfo { return r.info }

// Close gives the file back. It does not wait for reads that hang.
func (r *reader) Close() error {
	if !r.closed.Swap(true) && r.f != nil {
		go r.f.Close() // nothing to lose in its error, and it may hang
	}
	return nil
}

// ReadBlocks reads and verifies blocks, see ShardReader. Blocks behind the end are
// left out.
func (r *reader) ReadBlocks(ctx context.Context, first, n int64, p []byte) (int, error) {
	const op = "drive.ReadBlocks"
	h, size := r.info.Header, r.info.Trailer.Size
	blocks := Blocks(h, size)
	if first < 0 || n < 0 || first > blocks || r.closed.Load() {
		return 0, errs.Newf(op, errs.Invalid, "%d blocks from block %d of %d", n, first, blocks)
	}
	n = min(n, blocks-first)
	if n == 0 {
		return 0, nil
	}
	full := BlockLen(h, size, 0)
	want := (n-1)*full + BlockLen(h, size, first+n-1)
	if int64(len(p)) < want {
		return 0, errs.Newf(op, errs.Invalid, "%d bytes of room for %d bytes of blocks", len(p), want)
	}
	if r.all != nil {
		return r.verify(op, r.all[blockOffset(&h, first):], first, n, p)
	}
	step := max(1, largeBuf/(full+hashLen)) // blocks in one read
	got := 0
	for n > 0 {
		m := min(n, step)
		k, err := r.readChunk(ctx, op, first, m, p[got:])
		got += k
		if err != nil {
			return got, err
		}
		first, n = first+m, n-m
	}
	return got, nil
}

// LendBlock lends a verified block, see BlockLender.
func (r *reader) LendBlock(ctx context.Context, i int64) (p []byte, release func(), err error) {
	const op = "drive.LendBlock"
	blocks := Blocks(r.info.Header, r.info.Trailer.Size)
	if i < 0 || i >= blocks || r.closed.Load() {
		return nil, nil, errs.Newf(op, errs.Invalid, "block %d of %d", i, blocks)
	}
	if r.all != nil {
		raw := r.all[blockOffset(&r.info.Header, i):]
		p, err = r.verifyOne(op, raw, i)
		return p, func() {}, err
	}
	buf, err := r.readRaw(ctx, op, i, 1)
	if err != nil {
		return nil, nil, err
	}
	if p, err = r.verifyOne(op, buf, i); err != nil {
		r.d.buffers.put(buf)
		return nil, nil, err
	}
	return p, func() { r.d.buffers.put(buf) }, nil
}

// readChunk reads n blocks in one go.
func (r *reader) readChunk(ctx context.Context, op string, first, n int64, p []byte) (int, error) {
	buf, err := r.readRaw(ctx, op, first, n)
	if err != nil {
		return 0, err
	}
	k, err := r.verify(op, buf, first, n, p)
	r.d.buffers.put(buf)
	return k, err
}

// readRaw returns n blocks as they are in the file, in a buffer that the caller gives
// back. The task reads into a buffer of its own, and keeps it where its caller leaves
// before it ends.
func (r *reader) readRaw(ctx context.Context, op string, first, n int64) ([]byte, error) {
	h, size := r.info.Header, r.info.Trailer.Size
	from := blockOffset(&h, first)
	last := first + n - 1
	to := blockOffset(&h, last) + hashLen + BlockLen(h, size, last)
	buf := r.d.buffers.get(int(to - from))[:to-from]
	t, err := r.d.guard.start(ctx, op, r.d.opt.Deadline,
		func() error {
			if err := readFull(r.f, buf, from); err != nil {
				r.d.buffers.put(buf)
				buf = nil
				return r.readError(op, err)
			}
			return nil
		},
		func() { r.d.buffers.put(buf) })
	if err != nil {
		r.d.buffers.put(buf)
		return nil, err
	}
	if err := r.d.guard.wait(ctx, op, t); err != nil {
		return nil, err // the buffer is the task's
	}
	return buf, nil
}

// verify checks n blocks as they are in the file, from block first, and copies
// their data to p. It returns the bytes of the blocks before the first bad one.
func (r *reader) verify(op string, raw []byte, first, n int64, p []byte) (int, error) {
	got := 0
	for i := first; i < first+n; i++ {
		data, err := r.verifyOne(op, raw, i)
		if err != nil {
			return got, err
		}
		raw = raw[hashLen+len(data):]
		got += copy(p[got:], data)
	}
	return got, nil
}

// verifyOne checks block i, which raw begins with as it is in the file, and returns
// its data, a part of raw.
func (r *reader) verifyOne(op string, raw []byte, i int64) ([]byte, error) {
	h := &r.info.Header
	l := int(BlockLen(*h, r.info.Trailer.Size, i))
	want, data := raw[:hashLen], raw[hashLen:hashLen+l]
	if s := sum(data, blockSeed(h.Blob, h.Index, i)); !bytes.Equal(s[:], want) {
		return nil, errs.Newf(op, errs.Corrupt, "block %d of blob %s on %s does not match its hash", i, h.Blob, r.d)
	}
	return data, nil
}
