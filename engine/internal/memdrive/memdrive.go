// Package memdrive is a drive in memory for tests, with faults: every call can be
// made to fail or to hang, and shards can be damaged.
package memdrive

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Op names a call that a fault can be put on.
type Op string

// The calls.
const (
	Create Op = "create"
	Block  Op = "block"
	Commit Op = "commit"
	Abort  Op = "abort"
	Open   Op = "open"
	Stat   Op = "stat"
	Read   Op = "read"
	Delete Op = "delete"
	Walk   Op = "walk"
	Usage  Op = "usage"
)

// Fault is asked before each call. An error fails the call; it may block, which is a
// drive that hangs.
type Fault func(op Op, b twofold.BlobID) error

// Drive is a drive in memory.
type Drive struct {
	id   twofold.DriveID
	name string

	mu     sync.Mutex        // guards what follows
	own    twofold.ClusterID // zero: any
	state  drive.State
	fault  Fault
	shards map[twofold.BlobID]*shard
	usage  drive.Usage
	counts map[Op]int
	open   int // shards being written or read
}

var _ drive.Drive = (*Drive)(nil)

// shard does not change once it is committed; Damage replaces it.
type shard struct {
	info   drive.ShardInfo
	blocks [][]byte
	sums   []uint64
	bad    bool // header or trailer
}

// New returns an empty drive that is online.
func New(name string) *Drive {
	return &Drive{
		id: twofold.NewUUID(), name: name, state: drive.Online,
		shards: make(map[twofold.BlobID]*shard), counts: make(map[Op]int),
		usage: drive.Usage{Total: 1 << 40, Free: 1 << 39},
	}
}

// ID is random.
func (d *Drive) ID() twofold.DriveID { return d.id }

func (d *Drive) String() string { return d.name }

// State is what SetState said.
func (d *Drive) State() drive.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// SetState changes the state.
func (d *Drive) SetState(s drive.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = s
}

// SetHealing marks the drive as one being refilled: its state, too.
func (d *Drive) SetHealing(_ context.Context, healing bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case healing && d.state != drive.Offline:
		d.state = drive.Healing
	case d.state == drive.Healing:
		d.state = drive.Online
	}
	return nil
}

// Healing reports whether the drive is being refilled.
func (d *Drive) Healing() bool { return d.State() == drive.Healing }

// SetUsage changes what Usage says.
func (d *Drive) SetUsage(u drive.Usage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.usage = u
}

// SetCluster makes the drive refuse shards of other clusters.
func (d *Drive) SetCluster(c twofold.ClusterID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = c
}

// SetFault puts a fault on calls from now on; nil for none.
func (d *Drive) SetFault(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
}

// Count is how often op was called.
func (d *Drive) Count(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[op]
}

// InUse is the number of shards being written or read.
func (d *Drive) InUse() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// Blobs lists the committed shards.
func (d *Drive) Blobs() []twofold.BlobID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sorted()
}

func (d *Drive) sorted() []twofold.BlobID {
	ids := make([]twofold.BlobID, 0, len(d.shards))
	for id := range d.shards {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b twofold.BlobID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// Lose removes a shard without a trace.
func (d *Drive) Lose(b twofold.BlobID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.shards, b)
}

// Damage flips a byte of block i, or of the header where i < 0. It reports whether
// there was anything to damage.
func (d *Drive) Damage(b twofold.BlobID, i int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shards[b]
	if s == nil || i >= len(s.blocks) {
		return false
	}
	c := *s
	if i < 0 {
		c.bad = true
	} else {
		c.blocks = slices.Clone(s.blocks)
		c.blocks[i] = slices.Clone(s.blocks[i])
		c.blocks[i][len(c.blocks[i])/2] ^= 0x40
	}
	d.shards[b] = &c
	return true
}

// Rewrite changes a shard's header, as if another writer had written it.
func (d *Drive) Rewrite(b twofold.BlobID, fn func(*drive.ShardInfo)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := *d.shards[b]
	fn(&c.info)
	d.shards[b] = &c
}

// Forge replaces a block with one whose hash is right.
func (d *Drive) Forge(b twofold.BlobID, i int) {
	d.Damage(b, i)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shards[b]
	s.sums = slices.Clone(s.sums)
	s.sums[i] = xxh3.Hash(s.blocks[i])
}

// enter counts a call and lets the fault have its say.
func (d *Drive) enter(op Op, b twofold.BlobID) error {
	d.mu.Lock()
	d.counts[op]++
	f, st := d.fault, d.state
	d.mu.Unlock()
	if f != nil {
		if err := f(op, b); err != nil {
			return err
		}
	}
	if st == drive.Offline {
		return errs.Newf("memdrive", errs.Unavailable, "%s is offline", d.name)
	}
	return nil
}

func (d *Drive) use(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open += n
}

// Create starts a shard.
func (d *Drive) Create(ctx context.Context, h drive.ShardHeader) (drive.ShardWriter, error) {
	if err := d.enter(Create, h.Blob); err != nil {
		return nil, err
	}
	d.mu.Lock()
	own := d.own
	d.mu.Unlock()
	if h.Data == 0 || h.Index >= h.Data+h.Parity || h.Stripe == 0 || h.Piece > 0 && h.Piece < 512 || !own.IsZero() && h.Cluster != own {
		return nil, invalid("header %+v", h)
	}
	d.use(1)
	return &writer{d: d, ctx: ctx, s: &shard{info: drive.ShardInfo{Header: h, Bytes: 100}}}, nil
}

func invalid(format string, args ...any) error {
	return errs.Newf("memdrive", errs.Invalid, format, args...)
}

type writer struct {
	d    *Drive
	ctx  context.Context
	s    *shard
	done bool
}

func (w *writer) WriteBlock(p []byte) error {
	if err := w.d.enter(Block, w.s.info.Header.Blob); err != nil {
		return err
	}
	h := w.s.info.Header
	if w.done || len(p) == 0 || int64(len(p)) > drive.BlockLen(h, int64(h.Stripe), 0) {
		return invalid("a block of %d bytes", len(p))
	}
	w.s.blocks = append(w.s.blocks, bytes.Clone(p))
	w.s.sums = append(w.s.sums, xxh3.Hash(p))
	w.s.info.Bytes += int64(len(p))
	return nil
}

func (w *writer) Commit(t drive.ShardTrailer) error {
	if err := w.d.enter(Commit, w.s.info.Header.Blob); err != nil {
		return err
	}
	if err := w.check(t); err != nil {
		return err
	}
	w.s.info.Trailer = t
	w.d.mu.Lock()
	w.d.shards[w.s.info.Header.Blob] = w.s
	w.d.mu.Unlock()
	w.end()
	return nil
}

// check holds the trailer against what was written.
func (w *writer) check(t drive.ShardTrailer) error {
	h := w.s.info.Header
	switch {
	case w.ctx.Err() != nil:
		return errs.E("memdrive", errs.Canceled, w.ctx.Err())
	case w.done, t.Size < 0, len(t.Purpose) > 4<<10, drive.Blocks(h, t.Size) != int64(len(w.s.blocks)):
		return invalid("%d blocks for %d bytes", len(w.s.blocks), t.Size)
	}
	for i, b := range w.s.blocks {
		if int64(len(b)) != drive.BlockLen(h, t.Size, int64(i)) {
			return invalid("block %d has %d bytes", i, len(b))
		}
	}
	return nil
}

func (w *writer) Abort() error {
	err := w.d.enter(Abort, w.s.info.Header.Blob)
	w.end()
	return err
}

func (w *writer) end() {
	if !w.done {
		w.done = true
		w.d.use(-1)
	}
}

func (d *Drive) get(b twofold.BlobID) (*shard, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.shards[b]
	if s == nil {
		return nil, errs.Newf("memdrive", errs.NotFound, "no shard of %s on %s", b, d.name)
	}
	if s.bad {
		return nil, errs.Newf("memdrive", errs.Corrupt, "bad header of %s on %s", b, d.name)
	}
	return s, nil
}

// Open opens a shard.
func (d *Drive) Open(ctx context.Context, b twofold.BlobID) (drive.ShardReader, error) {
	if ctx.Err() != nil {
		return nil, errs.E("memdrive", errs.Canceled, ctx.Err())
	}
	if err := d.enter(Open, b); err != nil {
		return nil, err
	}
	s, err := d.get(b)
	if err != nil {
		return nil, err
	}
	d.use(1)
	return &reader{d: d, s: s}, nil
}

// Stat tells of a shard.
func (d *Drive) Stat(_ context.Context, b twofold.BlobID) (drive.ShardInfo, error) {
	if err := d.enter(Stat, b); err != nil {
		return drive.ShardInfo{}, err
	}
	s, err := d.get(b)
	if err != nil {
		return drive.ShardInfo{}, err
	}
	return s.info, nil
}

type reader struct {
	d    *Drive
	s    *shard
	once sync.Once
	shut atomic.Bool
}

func (r *reader) Info() drive.ShardInfo { return r.s.info }

func (r *reader) ReadBlocks(_ context.Context, first, n int64, p []byte) (int, error) {
	if err := r.d.enter(Read, r.s.info.Header.Blob); err != nil {
		return 0, err
	}
	blocks := int64(len(r.s.blocks))
	if first < 0 || n < 0 || first > blocks || r.shut.Load() {
		return 0, invalid("%d blocks from %d of %d", n, first, blocks)
	}
	room := 0
	for _, b := range r.s.blocks[first:min(first+n, blocks)] {
		room += len(b)
	}
	if len(p) < room {
		return 0, invalid("%d bytes of room for %d", len(p), room)
	}
	total := 0
	for i := first; i < first+n && i < int64(len(r.s.blocks)); i++ {
		total += copy(p[total:], r.s.blocks[i])
		if xxh3.Hash(r.s.blocks[i]) != r.s.sums[i] {
			return total, errs.Newf("memdrive", errs.Corrupt, "block %d of %s", i, r.s.info.Header.Blob)
		}
	}
	return total, nil
}

// LendBlock is one read of the drive's.
func (r *reader) LendBlock(_ context.Context, i int64, from, to int) ([]byte, func(), error) {
	if err := r.d.enter(Read, r.s.info.Header.Blob); err != nil {
		return nil, nil, err
	}
	if i < 0 || i >= int64(len(r.s.blocks)) || from < 0 || from >= to || to > len(r.s.blocks[i]) || r.shut.Load() {
		return nil, nil, invalid("[%d, %d) of block %d", from, to, i)
	}
	if xxh3.Hash(r.s.blocks[i]) != r.s.sums[i] {
		return nil, nil, errs.Newf("memdrive", errs.Corrupt, "block %d of %s", i, r.s.info.Header.Blob)
	}
	return r.s.blocks[i][from:to:to], func() {}, nil
}

// ReadNow has nothing at once, so that every read meets the faults.
func (r *reader) ReadNow(int64, int, []byte) bool { return false }

func (r *reader) Close() error {
	r.shut.Store(true)
	r.once.Do(func() { r.d.use(-1) })
	return nil
}

// Delete removes a shard.
func (d *Drive) Delete(_ context.Context, b twofold.BlobID) error {
	if err := d.enter(Delete, b); err != nil {
		return err
	}
	d.Lose(b)
	return nil
}

// Walk lists the shards.
func (d *Drive) Walk(_ context.Context, after twofold.BlobID, fn func(twofold.BlobID) error) error {
	if err := d.enter(Walk, after); err != nil {
		return err
	}
	for _, id := range d.Blobs() {
		if bytes.Compare(id[:], after[:]) > 0 {
			if err := fn(id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Usage is what SetUsage said.
func (d *Drive) Usage(context.Context) (drive.Usage, error) {
	if err := d.enter(Usage, twofold.BlobID{}); err != nil {
		return drive.Usage{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usage, nil
}
