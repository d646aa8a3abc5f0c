package drives

import (
	"context"
	"sync"
	"sync/atomic"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
)

// fake is a drive whose operations can be made to hang or fail.
type fake struct {
	drive.Drive
	state atomic.Uint32 // a drive.State, in place of the drive's; 0: the drive's
	lent  atomic.Int64  // LendBlock calls begun
	opens atomic.Int64
	walks atomic.Int64
	ids   []twofold.BlobID // that Walk tells, where set

	mu    sync.Mutex
	fault func(ctx context.Context, op string) error // guarded by mu
}

func (f *fake) set(fault func(ctx context.Context, op string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fake) fails(ctx context.Context, op string) error {
	f.mu.Lock()
	fault := f.fault
	f.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx, op)
}

func (f *fake) State() drive.State {
	if s := f.state.Load(); s != 0 {
		return drive.State(s)
	}
	return f.Drive.State()
}

func (f *fake) FileSystem() uint64 { return 7 }

func (f *fake) Format() drive.Format { return f.Drive.(*drive.Local).Format() }

func (f *fake) Create(ctx context.Context, h drive.ShardHeader) (drive.ShardWriter, error) {
	if err := f.fails(ctx, "create"); err != nil {
		return nil, err
	}
	w, err := f.Drive.Create(ctx, h)
	if err != nil {
		return nil, err
	}
	return &fakeWriter{w, f, ctx}, nil
}

func (f *fake) Open(ctx context.Context, b twofold.BlobID) (drive.ShardReader, error) {
	f.opens.Add(1)
	if err := f.fails(ctx, "open"); err != nil {
		return nil, err
	}
	r, err := f.Drive.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	return &fakeReader{r, f}, nil
}

func (f *fake) Delete(ctx context.Context, b twofold.BlobID) error {
	if err := f.fails(ctx, "delete"); err != nil {
		return err
	}
	return f.Drive.Delete(ctx, b)
}

func (f *fake) Usage(ctx context.Context) (drive.Usage, error) {
	if err := f.fails(ctx, "usage"); err != nil {
		return drive.Usage{}, err
	}
	return f.Drive.Usage(ctx)
}

func (f *fake) Walk(ctx context.Context, after twofold.BlobID, fn func(twofold.BlobID) error) error {
	f.walks.Add(1)
	if err := f.fails(ctx, "walk"); err != nil {
		return err
	}
	if f.ids == nil {
		return f.Drive.Walk(ctx, after, fn)
	}
	for _, id := range f.ids {
		if string(id[:]) > string(after[:]) {
			if err := fn(id); err != nil {
				return err
			}
		}
	}
	return nil
}

type fakeWriter struct {
	drive.ShardWriter
	f   *fake
	ctx context.Context
}

func (w *fakeWriter) WriteBlock(p []byte) error {
	if err := w.f.fails(w.ctx, "block"); err != nil {
		return err
	}
	return w.ShardWriter.WriteBlock(p)
}

func (w *fakeWriter) Commit(t drive.ShardTrailer) error {
	if err := w.f.fails(w.ctx, "commit"); err != nil {
		return err
	}
	return w.ShardWriter.Commit(t)
}

type fakeReader struct {
	drive.ShardReader
	f *fake
}

func (r *fakeReader) LendBlock(ctx context.Context, i int64, from, to int) ([]byte, func(), error) {
	r.f.lent.Add(1)
	if err := r.f.fails(ctx, "lend"); err != nil {
		return nil, nil, err
	}
	return r.ShardReader.LendBlock(ctx, i, from, to)
}

func (r *fakeReader) ReadBlocks(ctx context.Context, first, n int64, p []byte) (int, error) {
	if err := r.f.fails(ctx, "lend"); err != nil {
		return 0, err
	}
	return r.ShardReader.ReadBlocks(ctx, first, n, p)
}

// counting counts the calls of each method.
type counting struct {
	Caller
	calls [32]atomic.Int64
}

func (c *counting) Call(ctx context.Context, call *rpc.Call) (int, error) {
	c.calls[call.Method-MethodFirst].Add(1)
	return c.Caller.Call(ctx, call)
}

func (c *counting) count(m rpc.Method) int64 { return c.calls[m-MethodFirst].Load() }
