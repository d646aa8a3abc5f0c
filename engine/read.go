package engine

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// maxStripe is the largest stripe of a header that is believed.
const maxStripe = 64 << 20

// BlobReader reads one blob. Safe for concurrent use. A Delete does not take away
// what is open, but a shard it opens only later may be gone.
type BlobReader struct {
	e         *Engine
	blob      twofold.Blob
	coder     *erasure.Coder
	sources   []*source // by shard index
	stripeLen atomic.Uint32
	misplaced atomic.Bool
	last      erasure.Set // shards that are asked only where the others do not do
	never     erasure.Set // shards that are not asked
	used      time.Time   // when it was last taken from the cache; guarded by readerCache.mu

	refs atomic.Int64 // readers and calls under way; the sources are closed at 0
}

// Open opens enough shards of a blob to read it. errs.ReadQuorum, errs.Canceled,
// errs.Invalid, errs.NotFound where there is no such set.
func (e *Engine) Open(ctx context.Context, blob twofold.Blob) (*BlobReader, error) {
	return e.OpenAvoiding(ctx, blob, Damage{})
}

// OpenAvoiding is Open for repair: it reads from shards that are known to be bad only
// where the others do not do, and never from those that are wrong.
func (e *Engine) OpenAvoiding(ctx context.Context, blob twofold.Blob, d Damage) (*BlobReader, error) {
	s, err := e.set(blob.Set)
	if err != nil {
		return nil, err
	}
	n := int(blob.Data) + int(blob.Parity)
	if n != len(s.at) || blob.Size < 0 {
		return nil, errs.Newf("engine.Open", errs.Invalid, "blob %s: %d+%d shards on a set of %d drives",
			blob.ID, blob.Data, blob.Parity, len(s.at))
	}
	coder, err := e.Coder(int(blob.Data), int(blob.Parity))
	if err != nil {
		return nil, err
	}
	b := &BlobReader{e: e, blob: blob, coder: coder, last: d.Shards, never: d.Wrong}
	b.refs.Store(1)
	b.place(s, Placement(blob.ID, n))
	err = b.openSources(ctx)
	if err != nil && b.misplaced.Load() {
		err = b.reopenWhereFound(ctx, s)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// place makes sources of the positions given, one for each shard.
func (b *BlobReader) place(s *set, order []int) {
	b.sources = make([]*source, len(order))
	for i, at := range order {
		b.sources[i] = newSource(s.at[at], i)
	}
}

// openSources opens the data shards, or as many others.
func (b *BlobReader) openSources(ctx context.Context) error {
	g := b.gather(erasure.Span(0, b.coder.Data()))
	g.op = func(ctx context.Context, i int) error {
		_, err := b.sources[i].open(ctx, b)
		return err
	}
	_, err := b.run(ctx, g)
	return err
}

// reopenWhereFound is for shards that are not where their index belongs: it asks
// every drive which shard it has.
func (b *BlobReader) reopenWhereFound(ctx context.Context, s *set) error {
	states, err := b.e.Inspect(ctx, b.blob.ID, b.blob.Set)
	if err != nil {
		return err
	}
	order := Placement(b.blob.ID, len(s.at))
	for at, st := range states {
		if i := int(st.Info.Header.Index); st.Err == nil && i < len(order) {
			j := slices.Index(order, at)
			order[i], order[j] = order[j], order[i]
		}
	}
	for _, src := range b.sources {
		src.close()
	}
	b.misplaced.Store(false)
	b.place(s, order)
	return b.openSources(ctx)
}

// Blob is what is being read.
func (b *BlobReader) Blob() twofold.Blob { return b.blob }

// Close lets go of the shards once calls under way have ended.
func (b *BlobReader) Close() error {
	b.release()
	return nil
}

func (b *BlobReader) release() {
	if b.refs.Add(-1) == 0 {
		for _, s := range b.sources {
			s.close()
		}
	}
}

// acquire takes a reference unless the last one is gone.
func (b *BlobReader) acquire() bool {
	for {
		n := b.refs.Load()
		if n <= 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// gather asks for the shards in want: those first where their drives are well,
// otherwise the best ones.
func (b *BlobReader) gather(want erasure.Set) *gather {
	n, k := len(b.sources), b.coder.Data()
	now := time.Now()
	var ranks [erasure.MaxShards]int
	var wantBad bool
	well := 0
	for i, s := range b.sources {
		ranks[i] = s.pos.readRank(now)
		if s.knownBad() || b.last.Has(i) {
			ranks[i] = 5
		}
		if b.never.Has(i) {
			ranks[i] = 6
		}
		if ranks[i] < 2 {
			well++
		} else if want.Has(i) {
			wantBad = true
		}
	}
	order := make([]int, n) // the shards that are never asked come last, and are cut off
	for i := range order {
		order[i] = i
	}
	first := want.Len()
	unwanted := func(i int) int {
		if want.Has(i) {
			return 0
		}
		return 1
	}
	if wantBad {
		first = k
		slices.SortStableFunc(order, func(x, y int) int {
			return cmp.Or(cmp.Compare(ranks[x], ranks[y]), cmp.Compare(unwanted(x), unwanted(y)))
		})
	} else {
		slices.SortStableFunc(order, func(x, y int) int { // no wanted one is to be avoided
			return cmp.Or(cmp.Compare(unwanted(x), unwanted(y)), cmp.Compare(ranks[x], ranks[y]))
		})
	}
	order = order[:n-b.never.Len()]
	return &gather{
		e: b.e, need: k, want: want, order: order, first: first,
		at: func(i int) *position { return b.sources[i].pos },
	}
}

// run runs g with a reference held by each op, so that a call that is left behind
// never finds its files closed.
func (b *BlobReader) run(ctx context.Context, g *gather) (gathered, error) {
	op, begin := g.op, g.begin
	g.begin = func(i int) {
		b.refs.Add(1)
		if begin != nil {
			begin(i)
		}
	}
	g.op = func(ctx context.Context, i int) error {
		defer b.release()
		return op(ctx, i)
	}
	return g.run(ctx)
}

// stripeContent is the length of stripe i's content.
func (b *BlobReader) stripeContent(i int64) int {
	size := int64(b.stripeLen.Load())
	return int(min(size, b.blob.Size-i*size))
}

// ReadAt fills p from off. Like io.ReaderAt it returns io.EOF with fewer bytes only
// at the blob's end. Other errors as WriteRange.
func (b *BlobReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := b.rangeLen(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	done, err := b.readNow(p[:n], off)
	if err == nil {
		err = b.stripes(ctx, off+int64(done), n-int64(done), func(c []byte) error {
			done += copy(p[done:], c)
			return nil
		})
	}
	if err == nil && done < len(p) {
		err = io.EOF
	}
	return done, err
}

// rangeLen is how many of n bytes from off the blob has.
func (b *BlobReader) rangeLen(off, n int64) (int64, error) {
	if off < 0 || n < 0 {
		return 0, errs.Newf("engine.read", errs.Invalid, "offset %d, length %d", off, n)
	}
	return max(0, min(n, b.blob.Size-off)), nil
}

// WriteRange writes n bytes from off to w, in constant memory, reading a few stripes
// ahead. It returns how many were written. errs.Range where the blob is shorter,
// errs.ReadQuorum, errs.Canceled; an error of w as it is.
func (b *BlobReader) WriteRange(ctx context.Context, w io.Writer, off, n int64) (int64, error) {
	have, err := b.rangeLen(off, n)
	if err != nil {
		return 0, err
	}
	if have < n {
		return 0, errs.Newf("engine.WriteRange", errs.Range, "[%d, %d) of a blob of %d bytes", off, off+n, b.blob.Size)
	}
	var done int64
	err = b.stripes(ctx, off, n, func(c []byte) error {
		m, err := w.Write(c)
		done += int64(m)
		if err == nil && m < len(c) {
			err = io.ErrShortWrite
		}
		return err
	})
	return done, err
}
