// Package volume is the store as both views see it: buckets, objects, files,
// multipart uploads and write leases, put together from metadata (names,
// attributes, extents) and the engine (bytes).
//
// The ways through it:
//
//	PUT       put.go      body -> blob (or inline) -> one PutObject command
//	GET       get.go      snapshot with extents -> pin -> blobs -> client
//	write(2)  session.go  the mount holds it under a lease; files_data.go commits
//	                      what it flushes as extents of the inode
//	recall    lease/      GET, HEAD, LIST and stat ask the table; it asks the holder,
//	                      who flushes and releases; the asker looks again
//	flock(2)  locks/      the locks of all mounts, in memory as leases are
//
// Nothing here knows HTTP, FUSE, drives or raft.
package volume

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/lease"
	"twofold/volume/locks"
)

// Blobs is what the volume needs of the engine.
type Blobs interface {
	// Write stores what r yields as a blob, durably, or nothing.
	Write(ctx context.Context, o engine.WriteOptions, r io.Reader) (twofold.Blob, error)
	// Open opens a blob for streaming.
	Open(ctx context.Context, b twofold.Blob) (*engine.BlobReader, error)
	// ReadAt reads a piece of a blob.
	ReadAt(ctx context.Context, b twofold.Blob, p []byte, off int64) (int, error)
	// Delete removes the blob's shards from the drives that are online.
	Delete(ctx context.Context, b twofold.Blob) error
	// WalkBlobs lists the blobs of which any online drive has a shard.
	WalkBlobs(ctx context.Context, fn func(twofold.BlobID, []twofold.SetID) error) error
}

// Placer decides where a blob goes.
type Placer interface {
	// Place chooses a set by name, and the parity for the storage class.
	Place(name, class string) (set twofold.SetID, parity int, err error)
	// Writable is nil, or why the store takes no writes now (errs.WriteQuorum,
	// errs.ReadOnly, errs.NoSpace).
	Writable() error
	// Space is the store's capacity and what is free, in bytes of content.
	Space(ctx context.Context) (total, free uint64, err error)
	// Room is how many bytes of content may be written now and find space, as of no
	// earlier than the call.
	Room(ctx context.Context) (uint64, error)
}

// Options for Open. All but Logger's level of detail matters.
type Options struct {
	Meta   metadata.Store
	Blobs  Blobs
	Placer Placer
	Node   string // this process, for people and for procid
	Logger *slog.Logger

	// Leads is where other nodes may open a volume on the same metadata (nil: there are
	// none). It tells whether this one may answer from memory, at the moment of the call,
	// and must be cheap. It is of one leadership, the one under which Open was called: once
	// another one may have begun, on whatever node, it is false for good. It may be false
	// for a moment before that. Clock is the wall clock; nil: twofold.Now.
	Leads func() bool
	Clock func() twofold.Time
	// LedSince is a moment, of the monotonic clock, from which on no earlier leader can have
	// answered a mount: from it on mounts of before are waited for. Zero: when Open is done.
	LedSince time.Time

	// LeaseTerm is how long a mount may be silent before its leases are taken
	// away when somebody asks for them. Zero: 5 s.
	LeaseTerm time.Duration
	// SessionTTL is how long a mount may be silent before it is forgotten with
	// its open files. Zero: 90 s.
	SessionTTL time.Duration
	// InlineMax is the most bytes of data that live in the metadata. Zero:
	// twofold.MaxInline.
	InlineMax int64
	// Idle is how often collection looks for work without being told. Zero: 10 s.
	Idle time.Duration
}

// Volume is safe for concurrent use.
type Volume struct {
	Options
	log     *slog.Logger
	writer  twofold.SessionID // the session under which this process writes blobs
	seqs    sequence
	blobNo  counter
	leases  *lease.Table
	locks   *locks.Table
	ledger  *ledger
	pins    *pins
	opens   *opens
	levels  *levels
	touched *touched
	clock   *clock
	taken   *taken

	began time.Time
	stop  context.CancelFunc
	ctx   context.Context // ends when the volume closes, or is abandoned
	wg    sync.WaitGroup
	ends  sync.RWMutex // held while ctx ends, so that nobody adds to wg behind that

	abandoned context.Context // ends with Abandon
	abandon   context.CancelFunc

	kickReaper  chan struct{}
	kickTrash   chan struct{}
	kickCompact chan struct{}

	scratch scratch

	firstToken uint64 // leases up to this one are of an earlier process

	mu       sync.Mutex
	sessions map[twofold.SessionID]*Session
	expected map[twofold.SessionID]string // mounts of before the start that are not back
	buckets  map[twofold.BucketName]metadata.Bucket
	writing  map[twofold.BlobID]struct{} // blobs not yet committed, or of unknown outcome

	reserved   map[twofold.Ino]struct{}    // leased files that have something reserved
	quotaSince map[twofold.BucketID]uint64 // the last lease of before the quota was set
}

var _ api.Objects = (*Volume)(nil)

// Open begins a writer's session, ends those of earlier processes, and starts
// serving. Operations that depend on write leases wait until the mounts of before
// are back, or a lease term is over.
func Open(ctx context.Context, o Options) (*Volume, error) {
	if o.LeaseTerm == 0 {
		o.LeaseTerm = 5 * time.Second
	}
	if o.SessionTTL == 0 {
		o.SessionTTL = 90 * time.Second
	}
	if o.InlineMax == 0 {
		o.InlineMax = twofold.MaxInline
	}
	if o.Idle == 0 {
		o.Idle = 10 * time.Second
	}
	run, stop := context.WithCancel(context.Background())
	v := &Volume{
		Options: o, log: o.Logger, ctx: run, stop: stop, began: time.Now(),
		leases:      lease.NewTable(o.LeaseTerm, o.Logger, run.Done()),
		ledger:      newLedger(o.Placer.Room),
		pins:        newPins(),
		opens:       newOpens(),
		levels:      newLevels(),
		touched:     newTouched(),
		clock:       newClock(o.Clock),
		taken:       newTaken(),
		kickReaper:  make(chan struct{}, 1),
		kickTrash:   make(chan struct{}, 1),
		kickCompact: make(chan struct{}, 1),
		sessions:    map[twofold.SessionID]*Session{},
		expected:    map[twofold.SessionID]string{},
		buckets:     map[twofold.BucketName]metadata.Bucket{},
		writing:     map[twofold.BlobID]struct{}{},
		reserved:    map[twofold.Ino]struct{}{},
		quotaSince:  map[twofold.BucketID]uint64{},
	}
	v.abandoned, v.abandon = context.WithCancel(context.Background())
	if o.Leads != nil {
		v.Meta = &leading{Store: o.Meta, v: v}
	}
	v.locks = locks.New(locks.Options{
		Term: o.LeaseTerm, Ready: v.leases.Await, IsReady: v.leases.IsReady, Log: o.Logger, Done: run.Done(),
		Note: v.noteLocks, Unnote: v.unnoteLocks,
	})
	v.leases.NoteRevoked(v.noteLease)
	if err := v.begin(ctx); err != nil {
		stop()
		return nil, err
	}
	v.firstToken = firstToken(v.writer)
	v.leases.TokensFrom(v.firstToken)
	v.locks.TokensFrom(v.firstToken)
	term := o.LeaseTerm
	if o.Leads != nil {
		var err error
		if term, err = v.takeOver(ctx); err != nil {
			stop()
			return nil, err
		}
		v.wg.Add(1)
		go v.keepClock()
	}
	v.kick(v.kickReaper) // what the process before did not get to
	v.kick(v.kickCompact)
	v.wg.Add(5)
	since := o.LedSince
	if since.IsZero() || o.Leads == nil {
		since = time.Now()
	}
	go v.grace(since, term)
	go v.keepTaken()
	go v.reaper()
	go v.compactor()
	go v.collector()
	return v, nil
}

// begin starts this process's session and settles those of earlier ones.
func (v *Volume) begin(ctx context.Context) error {
	secret := make([]byte, 16)
	rand.Read(secret)
	res, err := v.Meta.Apply(ctx, &metadata.Command{
		Op: metadata.OpBeginSession, Now: v.now(),
		Body: metadata.BeginSession{Kind: metadata.SessionServer, Node: v.Node, Secret: secret, Nonce: twofold.NewUUID()},
	})
	if err != nil {
		return err
	}
	v.writer = twofold.SessionID(res.ID)
	var all []metadata.Session
	if err := v.Meta.View(ctx, func(w metadata.View) (err error) {
		all, err = w.Sessions()
		return err
	}); err != nil {
		return err
	}
	for _, s := range all {
		switch {
		case s.ID == v.writer:
		case s.Ended:
			if err := v.forgetSession(ctx, s.ID); err != nil {
				return err
			}
		case s.Kind == metadata.SessionServer:
			// This process owns every drive: no other server can be running.
			if err := v.endSession(ctx, s.ID); err != nil {
				return err
			}
		default:
			v.expected[s.ID] = s.Node
		}
	}
	return nil
}

// firstToken is below all tokens of leases that the server of this session grants, and above
// those of earlier ones: sessions are numbered in order, whatever the servers' clocks say. Bit 62
// is above the tokens of versions that took them from the clock; a server has 2^38 of its own.
func firstToken(server twofold.SessionID) uint64 { return 1<<62 + uint64(server)<<38 }

// Close stops background work. Requests in flight must have ended; metadata and
// engine are the caller's to close afterwards.
func (v *Volume) Close(ctx context.Context) error {
	v.end()
	_, err := v.commit(ctx, metadata.OpEndSession, metadata.EndSession{ID: v.writer})
	return err
}

// end stops background work, and waits for its end.
func (v *Volume) end() {
	v.ends.Lock()
	v.stop()
	v.ends.Unlock()
	v.wg.Wait()
}

// background runs fn beside its caller, unless the volume is at its end.
func (v *Volume) background(fn func()) {
	v.ends.RLock()
	defer v.ends.RUnlock()
	if v.ctx.Err() == nil {
		v.wg.Go(fn)
	}
}

// commitTimeout bounds how long a command may be of unknown outcome before the
// client is told so. It is longer than any election.
const commitTimeout = 30 * time.Second

// commit applies a command under this process's session. The caller's ctx gives
// values, not its end: once sent, the outcome is waited for.
//
// A quota refuses it only when nothing is reserved any more for mounts that are gone.
func (v *Volume) commit(ctx context.Context, op metadata.Op, body any) (*metadata.Result, error) {
	return v.commitGuarded(ctx, op, body, nil)
}

func (v *Volume) commitGuarded(ctx context.Context, op metadata.Op, body any, guard []metadata.Target) (*metadata.Result, error) {
	res, err := v.commitOnce(ctx, op, body, guard)
	if errs.Is(err, errs.Quota) && v.returnReserves(ctx) > 0 {
		res, err = v.commitOnce(ctx, op, body, guard)
	}
	return res, err
}

func (v *Volume) commitOnce(ctx context.Context, op metadata.Op, body any, guard []metadata.Target) (*metadata.Result, error) {
	seq := v.seqs.next()
	defer v.seqs.done(seq)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	return v.Meta.Apply(ctx, &metadata.Command{
		Op: op, Session: v.writer, Seq: seq, Acked: v.seqs.acked(),
		Writer: v.writer, Now: v.now(), Body: body, Guard: guard,
	})
}

// observe runs fn on snapshots of the metadata until one is settled: fn returns
// the inodes whose content or size it looked at, and what was written to those
// under leases of sessions other than self is in the snapshot.
func (v *Volume) observe(ctx context.Context, self twofold.SessionID, fn func(metadata.View) ([]twofold.Ino, error)) error {
	_, err := v.observeAt(ctx, self, fn)
	return err
}

// observeAt is observe that tells the generation of the lease table before the last
// snapshot. What fn has to do with directories about which a mount decides it need not say:
// the snapshot tells, where there are any.
func (v *Volume) observeAt(ctx context.Context, self twofold.SessionID, fn func(metadata.View) ([]twofold.Ino, error)) (gen uint64, err error) {
	for tries := 0; ; {
		gen, err = v.leases.Generation(ctx)
		if err != nil {
			return gen, err
		}
		var inos []twofold.Ino
		var looked looks
		dirs := v.leases.Dirs()
		failed := v.Meta.View(ctx, func(w metadata.View) (err error) {
			if dirs.Some() {
				looked.at(w)
			}
			inos, err = fn(w)
			return err
		})
		if failed != nil {
			inos = nil // it did not come to them
		}
		if dirs.Some() {
			inos = append(inos, looked.dirs()...) // that there is nothing is an answer as well
		}
		ok := true
		if failed == nil || dirs.Some() {
			if ok, err = v.leases.Settled(ctx, gen, self, inos...); err != nil {
				return gen, err
			}
		}
		if !ok || !dirs.Some() && !v.leases.Same(dirs) {
			continue
		}
		// The table of leases is the one that counts, and was at the snapshot, if it is now.
		if v.Leads() {
			return gen, failed
		}
		if tries++; tries == 3 {
			return gen, errs.Newf("volume.observe", errs.Unavailable, "this node does not lead now")
		}
	}
}

// bucket finds a bucket by name: from memory where it is known. A command that
// names a bucket that is gone fails with errs.NoBucket, and withBucket asks again.
func (v *Volume) bucket(ctx context.Context, name twofold.BucketName) (metadata.Bucket, error) {
	v.mu.Lock()
	b, ok := v.buckets[name]
	v.mu.Unlock()
	if ok {
		return b, nil
	}
	err := v.Meta.View(ctx, func(w metadata.View) error {
		p, err := w.Bucket(name)
		if err == nil {
			b = *p
		}
		return err
	})
	if err == nil {
		v.mu.Lock()
		v.buckets[name] = b
		v.mu.Unlock()
	}
	return b, err
}

// forgetBucket drops a bucket from memory.
func (v *Volume) forgetBucket(name twofold.BucketName) {
	v.mu.Lock()
	delete(v.buckets, name)
	v.mu.Unlock()
}

// withBucket runs fn with the bucket, and once more with a fresh record if what
// was in memory turns out to be of a bucket that was deleted.
func (v *Volume) withBucket(ctx context.Context, name twofold.BucketName, fn func(metadata.Bucket) error) error {
	for try := 0; ; try++ {
		b, err := v.bucket(ctx, name)
		if err != nil {
			return err
		}
		err = fn(b)
		if !errs.Is(err, errs.NoBucket) || try > 0 {
			return err
		}
		v.forgetBucket(name)
	}
}
