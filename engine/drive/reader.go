package drive

import (
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

// reader reads one shard; its blocks in blockread.go. A small shard is in memory from the start, and needs no
// I/O and no open file any more.
type reader struct {
	d      *Local
	info   ShardInfo
	all    []byte   // the whole file, or nil
	f      vfs.File // nil with all
	closed atomic.Bool
}

var _ ShardReader = (*reader)(nil)

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

// parse checks the records. Its errors say what is wrong, and are errs.Corrupt, or
// errs.Unsupported for a shard of a newer program, which nobody repairs.
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
		kind := errs.Corrupt
		if errs.Is(err, errs.Unsupported) {
			kind = errs.Unsupported
		}
		return &errs.Error{Op: "drive.Open", Kind: kind, Msg: "shard of blob " + b.String() + " on " + r.d.String(), Err: err}
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

// readVFull is readFull into several pieces of memory.
func readVFull(f vfs.File, bufs [][]byte, off int64) error {
	_, err := vfs.ReadV(f, bufs, off)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
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
