package kv

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"twofold/internal/errs"
)

// Badger is a Store on a drive: an LSM tree in a live directory, and checkpoints
// of it. See DESIGN.md for what is trusted after which kind of stop.
//
// Badger runs in its managed mode: a batch is a version, and a snapshot reads at
// one. A batch may therefore span several of Badger's own transactions, and is
// still seen whole or not at all: its version is published when all are in.
type Badger struct {
	base string // holds the live directories
	dir  string // the live directory in use
	log  *slog.Logger
	db   *badger.DB

	mu     sync.Mutex // serialises Write, the cut of a checkpoint and Close
	failed error      // guarded by mu: the first error of a write; nothing is written after it
	closed bool       // guarded by mu

	muted atomic.Bool  // Badger's log is not of interest any more
	life  sync.RWMutex // held for reading by Views; Close takes it
	gone  atomic.Bool
	reads tracker

	values  *values
	cleaner *cleaner // nil before Open has started it

	durable durableSet
	pinned  pins      // guarded by mu: the tables that the latest checkpoint may share
	logs    *logFiles // guarded by mu; nil where Badger's logs are files of the drive
}

var _ Store = (*Badger)(nil)

// ErrClosed is behind the error of a View that did not begin because the store was closed.
var ErrClosed = errors.New("the store is closed")

// tuning of Badger. Measured for four replicas in one process; see DESIGN.md.
const (
	memTableSize   = 8 << 20
	blockCacheSize = 8 << 20
	valueThreshold = 1 << 20 // of Badger's own value log, not of our value files
)

// badgerOptions are Badger's, for a live directory.
func badgerOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(false).      // the raft log is what is durable
		WithDetectConflicts(false). // one writer
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(1 << 20). // never written: values above the threshold are refused
		WithNumCompactors(2).
		WithNumLevelZeroTables(4).
		WithNumLevelZeroTablesStall(12).
		WithBaseTableSize(4 << 20).
		WithBaseLevelSize(32 << 20).
		WithCompression(options.Snappy).
		WithBlockCacheSize(blockCacheSize).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		WithNumGoroutines(1).
		WithBypassLockGuard(true) // live directories are never opened twice: each has a name of its own
}

// openBadger opens the files of a live directory that may be trusted.
func openBadger(base, dir string, log *slog.Logger) (*Badger, error) {
	const op = "kv.Open"
	want, err := manifestTables(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	b := &Badger{base: base, dir: dir, log: log, values: newValues(dir, log)}
	g := gate{badgerLog{log, &b.muted}, make(chan struct{})}
	defer close(g.open)
	if b.logs, err = prepareLogs(dir); err != nil {
		warnMapped(log, dir, err)
	}
	db, err := badger.OpenManaged(badgerOptions(dir).WithLogger(g))
	if err != nil {
		return nil, errors.Join(errs.E(op, errs.Other, err), b.logs.close())
	}
	b.db = db
	if err := b.begin(want); err != nil {
		return nil, errors.Join(err, db.Close(), b.logs.close())
	}
	db.SetDiscardTs(b.reads.publish(db.MaxVersion()))
	return b, nil
}

// begin looks at what Badger has opened, and prepares it for writes. want are the
// tables that have to be there.
func (b *Badger) begin(want []uint64) (err error) {
	if b.pinned, err = pinTables(b.db); err != nil {
		return err
	}
	for _, id := range want {
		if b.pinned[id] == nil { // Badger leaves out tables that fail their checksum
			return errs.Newf("kv.Open", errs.Corrupt, "table %d in %s is damaged", id, b.dir)
		}
	}
	return b.logs.adopt(b.db)
}

// View implements Store.
func (b *Badger) View(fn func(Reader) error) error {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.gone.Load() {
		return errs.E("kv.View", errs.Unavailable, ErrClosed)
	}
	v := b.reads.acquire()
	defer b.reads.release(v)
	txn := b.db.NewTransactionAt(v, false)
	defer txn.Discard()
	return catchFaults(func() error { return fn(&badgerSnap{txn, b.values}) })
}

// Write implements Store. After an error the store takes no more writes: part of
// the batch may be in, under a version that is never published. Bulky values reach
// their file before anything that points to them reaches the tree.
func (b *Badger) Write(ops []Op) error {
	if err := checkBatch(ops); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errs.Newf("kv.Write", errs.Unavailable, "the store is closed")
	case b.failed != nil:
		return b.failed
	case len(ops) == 0:
		return nil
	}
	v, err := b.place(ops)
	if err != nil {
		b.failed = errs.E("kv.Write", errs.Other, err)
		return b.failed
	}
	return b.commit(ops, v)
}

// place finds the bulky values that ops replace, and writes those that ops bring.
func (b *Badger) place(ops []Op) (v valueBatch, err error) {
	err = catchFaults(func() (err error) {
		txn := b.db.NewTransactionAt(b.reads.version(), false)
		defer txn.Discard()
		v.gone, err = b.values.replaced(txn, ops)
		return err
	})
	if err == nil {
		v.ptrs, err = b.values.append(ops)
	}
	return v, err
}

// commit makes ops the next version. b.mu is held.
func (b *Badger) commit(ops []Op, v valueBatch) error {
	version := b.reads.version() + 1 // it changes here alone
	if err := b.write(version, ops, v.ptrs); err != nil {
		b.failed = errs.E("kv.Write", errs.Other, err)
		return b.failed
	}
	b.values.commit(ops, v, version)
	b.db.SetDiscardTs(b.reads.publish(version))
	return nil
}

// write brings ops into the tree, with ptrs in the place of values that have one.
func (b *Badger) write(version uint64, ops []Op, ptrs []*pointer) error {
	if err := b.logs.reserve(ops, ptrs); err != nil {
		return fmt.Errorf("making room for the log of a batch: %w", err)
	}
	wb := b.db.NewWriteBatchAt(version)
	defer wb.Cancel()
	for i, op := range ops {
		var err error
		switch {
		case op.Value == nil:
			err = wb.Delete(op.Key)
		case ptrs != nil && ptrs[i] != nil:
			err = wb.SetEntry(badger.NewEntry(op.Key, ptrs[i].encode()).WithMeta(metaPointer))
		default:
			err = wb.Set(op.Key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	return wb.Flush()
}

// badgerSnap is a snapshot.
type badgerSnap struct {
	txn    *badger.Txn
	values *values
}

var _ Reader = (*badgerSnap)(nil)

func (s *badgerSnap) Get(key []byte) ([]byte, error) {
	item, err := s.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) || errors.Is(err, badger.ErrEmptyKey) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E("kv.Get", errs.Other, err)
	}
	return itemValue(item, s.values)
}

func (s *badgerSnap) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return scan(s.Iter(start, end), start, fn)
}

// itemValue returns an item's value, never nil. It lies in the LSM tree (a memtable
// or a block), so that it stays valid as long as the snapshot, for a Get, or until
// the next move, for an iterator. A bulky one is read from its file now.
func itemValue(item *badger.Item, files *values) (v []byte, err error) {
	err = item.Value(func(p []byte) error { v = p; return nil })
	if err != nil {
		return nil, errs.E("kv.Value", errs.Other, fmt.Errorf("key %x: %w", item.Key(), err))
	}
	if item.UserMeta()&metaPointer != 0 {
		p, err := decodePointer(v)
		if err != nil {
			return nil, err
		}
		return files.read(p, item.Key())
	}
	if v == nil {
		v = []byte{}
	}
	return v, nil
}
