// Package engine keeps blobs: immutable runs of bytes, each erasure-coded over the
// drives of one set. It knows drives (engine/drive) and nothing of names.
//
// The way of a write: Write reads a stripe of 1 MiB, codes it into one block per
// drive and hands each block to that drive's goroutine; a few stripes are under way
// at once. When all are written every shard is committed (fsynced), and Write
// returns once enough of them are. See write.go.
//
// The way of a read: Open opens the data shards, each stripe's data blocks are read
// in parallel and are the content as they are; only when one is missing, corrupt or
// slow are others read and the content computed. See read.go and gather.go.
//
// No drive may stall the others: every call on a drive runs in a goroutine of its
// own and is left behind when it takes too long. A drive with such calls is not
// chosen while the others will do.
//
// What is found damaged on the way is told to the handler of OnDamage, which
// engine/repair is.
package engine

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// Options configure an Engine. Zero durations and counts get the defaults named.
type Options struct {
	Cluster twofold.ClusterID
	Sets    []SetConfig
	Logger  *slog.Logger

	// HedgeDelay is how long a read waits for a drive before it asks another one
	// as well. Default 200 ms.
	HedgeDelay time.Duration
	// ReadTimeout is how long a read waits in all, for one stripe, while too few
	// drives have answered. Default 30 s.
	ReadTimeout time.Duration
	// Grace is how long a write waits for the slower drives at a step that a write
	// quorum of drives has finished. Default 3 s.
	Grace time.Duration
	// WriteTimeout is how long a write waits at a step that no write quorum has
	// finished. Default 30 s.
	WriteTimeout time.Duration
	// OpenReaders is the most blobs whose shards ReadAt keeps open. Default 128.
	OpenReaders int
}

// SetConfig is one erasure set: 1 to 16 drives in their order, and the parity of a
// blob that asks for none.
type SetConfig struct {
	ID     twofold.SetID
	Slots  []*drive.Slot
	Parity int
}

// Engine stores and reads blobs. Safe for concurrent use.
type Engine struct {
	opts   Options
	log    *slog.Logger
	pool   erasure.Pool
	ahead  ahead
	cache  *readerCache
	damage atomic.Pointer[func(Damage)]

	mu     sync.RWMutex // guards what follows
	sets   map[twofold.SetID]*set
	order  []*set // by id
	coders map[[2]int]*erasure.Coder

	live liveBlobs
}

// Open returns an engine over the sets given. It touches no drive. errs.Invalid.
func Open(o Options) (*Engine, error) {
	setDefault(&o.HedgeDelay, 200*time.Millisecond)
	setDefault(&o.ReadTimeout, 30*time.Second)
	setDefault(&o.Grace, 3*time.Second)
	setDefault(&o.WriteTimeout, 30*time.Second)
	setDefault(&o.OpenReaders, 128)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		opts:   o,
		log:    o.Logger,
		sets:   make(map[twofold.SetID]*set),
		coders: make(map[[2]int]*erasure.Coder),
	}
	e.cache = newReaderCache(o.OpenReaders)
	e.live.init()
	for _, c := range o.Sets {
		if err := e.AddSet(c); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func setDefault[T int | time.Duration](p *T, d T) {
	if *p <= 0 {
		*p = d
	}
}

// AddSet adds a set. errs.Invalid, errs.Exists.
func (e *Engine) AddSet(c SetConfig) error {
	const op = "engine.AddSet"
	n := len(c.Slots)
	if n < 1 || n > erasure.MaxShards {
		return errs.Newf(op, errs.Invalid, "set %s has %d drives; a set has 1 to %d", c.ID, n, erasure.MaxShards)
	}
	if c.Parity < 0 || c.Parity > n/2 {
		return errs.Newf(op, errs.Invalid, "set %s of %d drives can't have parity %d", c.ID, n, c.Parity)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sets[c.ID] != nil {
		return errs.Newf(op, errs.Exists, "set %s is there already", c.ID)
	}
	s := newSet(c)
	e.sets[c.ID] = s
	e.order = append(slices.Clone(e.order), s)
	slices.SortFunc(e.order, func(a, b *set) int { return compareSets(a.id, b.id) })
	return nil
}

// Close lets go of the shards that are kept open. Reads and writes under way go on.
func (e *Engine) Close() error {
	e.cache.purge()
	return nil
}

// Damage says that a shard of a blob is missing or bad.
type Damage struct {
	Blob twofold.BlobID
	Set  twofold.SetID
	// Shards are those known to be bad although they may open: a block failed its
	// hash. Missing ones are found by looking.
	Shards erasure.Set
	// Wrong are those whose blocks pass their hashes and yet do not fit the others':
	// nothing may be computed from them.
	Wrong erasure.Set
}

// OnDamage sets who is told of damage. The handler must not block.
func (e *Engine) OnDamage(fn func(Damage)) { e.damage.Store(&fn) }

func (e *Engine) reportDamage(d Damage) {
	if fn := e.damage.Load(); fn != nil {
		(*fn)(d)
	}
}

// Cluster is the store's id, which every shard's header carries.
func (e *Engine) Cluster() twofold.ClusterID { return e.opts.Cluster }

// Coder returns the coder of these numbers of shards. errs.Invalid.
func (e *Engine) Coder(data, parity int) (*erasure.Coder, error) {
	key := [2]int{data, parity}
	e.mu.RLock()
	c := e.coders[key]
	e.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c, err := erasure.New(data, parity)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.coders[key] = c
	e.mu.Unlock()
	return c, nil
}

// Buffers is the pool that stripes come from.
func (e *Engine) Buffers() *erasure.Pool { return &e.pool }

func (e *Engine) set(id twofold.SetID) (*set, error) {
	e.mu.RLock()
	s := e.sets[id]
	e.mu.RUnlock()
	if s == nil {
		return nil, errs.Newf("engine", errs.NotFound, "there is no set %s", id)
	}
	return s, nil
}

// allSets returns the sets by id. The slice must not be changed.
func (e *Engine) allSets() []*set {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.order
}

// Sets lists the sets by id.
func (e *Engine) Sets() []twofold.SetID {
	var ids []twofold.SetID
	for _, s := range e.allSets() {
		ids = append(ids, s.id)
	}
	return ids
}

// Slots lists a set's slots in their order; nil where there is no such set.
func (e *Engine) Slots(id twofold.SetID) []*drive.Slot {
	s, err := e.set(id)
	if err != nil {
		return nil
	}
	slots := make([]*drive.Slot, len(s.at))
	for i, p := range s.at {
		slots[i] = p.slot
	}
	return slots
}
