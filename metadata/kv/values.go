package kv

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// valueFileSize is where a value file ends and the next one begins, in bytes. A file
// is longer than that only when one batch is.
const valueFileSize = 64 << 20

// keepBuf is the most that stays allocated between two batches.
const keepBuf = 1 << 20

// Damage is a value that can't be read back as it was written: the file is too
// short, or the drive fails, or the record does not match its hash. The error that
// it comes in is of kind errs.Corrupt.
type Damage struct {
	File string // its name in the live directory
	Off  int64
	Err  error
}

func (d *Damage) Error() string {
	return fmt.Sprintf("the value at %d in %s is damaged: %v", d.Off, d.File, d.Err)
}

func (d *Damage) Unwrap() error { return d.Err }

// values are the value files of a live directory: what is bulky lies in them, once,
// instead of in the tree, which writes everything several times (the memtable's log,
// level 0, each compaction). DESIGN.md says when a file may go.
type values struct {
	dir   string
	fs    vfs.FS
	log   *slog.Logger
	bulky func(key []byte) int // Options.Bulky; nil: nothing is
	limit int64                // valueFileSize, but in tests

	mu    sync.RWMutex
	files map[uint32]*valueFile // guarded by mu; changed with Badger.mu held, too

	// Guarded by Badger.mu:

	next   uint32       // number of the next file
	cur    *valueFile   // the one that is appended to; nil: the next batch makes one
	sealed tally        // of the sealed files where something is alive, without bad ones
	dead   []*valueFile // sealed files where nothing is; snapshots may need them
	buf    []byte

	kick chan struct{} // to the cleaner: something is due
}

// valueFile is a file of values. Open files are closed when they are removed, or
// with the store.
type valueFile struct {
	id uint32
	f  vfs.File

	// Guarded by Badger.mu. size does not change once the file is sealed.
	size   int64  // bytes up to which records lie; what is behind is of a write that failed
	live   int64  // bytes of the records that the newest version points to
	death  uint64 // the version that ended the last record's life; snapshots before it may read
	sealed bool   // nothing is appended any more
	bad    bool   // it can't be walked, so it is not cleaned
}

// tally sums up files.
type tally struct {
	files      int
	size, live int64 // bytes
}

func newValues(dir string, log *slog.Logger) *values {
	return &values{
		dir: dir, fs: vfs.OS(), log: log, limit: valueFileSize,
		files: map[uint32]*valueFile{}, next: 1, kick: make(chan struct{}, 1),
	}
}

const valuePrefix = "values-"

func valueName(id uint32) string           { return fmt.Sprintf("%s%08d", valuePrefix, id) }
func isValues(name string) bool            { return strings.HasPrefix(name, valuePrefix) }
func (v *values) path(f *valueFile) string { return filepath.Join(v.dir, valueName(f.id)) }

// read returns the value that p points to, in memory of its own. Safe for concurrent
// use. The caller's snapshot keeps the file.
func (v *values) read(p pointer, key []byte) ([]byte, error) {
	v.mu.RLock()
	f := v.files[p.file]
	v.mu.RUnlock()
	value, err := f.read(p, key)
	if err != nil {
		return nil, errs.E("kv.Value", errs.Corrupt, &Damage{valueName(p.file), int64(p.off), fmt.Errorf("key %x: %w", key, err)})
	}
	return value, nil
}

func (f *valueFile) read(p pointer, key []byte) ([]byte, error) {
	if f == nil {
		return nil, fmt.Errorf("there is no such file")
	}
	b := make([]byte, p.record(key))
	if _, err := f.f.ReadAt(b, int64(p.off)); err != nil {
		return nil, err // a short read is io.EOF
	}
	k, value, q, err := decodeRecord(b, p.file, int64(p.off))
	if err != nil {
		return nil, err
	}
	if q != p || string(k) != string(key) {
		return nil, fmt.Errorf("another record, of key %x", k)
	}
	return value, nil
}

// valueBatch is what a batch does to the value files.
type valueBatch struct {
	ptrs []*pointer // by op; nil: the value stays in the tree. Empty: all do
	gone []goneValue
}

// goneValue is a record that the batch ends the life of.
type goneValue struct {
	file uint32
	size int64 // bytes of the record
}

// watched tells whether the tree may hold a pointer for key.
func (v *values) watched(key []byte) bool {
	if v.bulky != nil {
		return v.bulky(key) > 0
	}
	return len(v.files) > 0
}

// replaced finds the records that ops end the life of. txn is a snapshot of the
// newest version.
func (v *values) replaced(txn *badger.Txn, ops []Op) (gone []goneValue, err error) {
	for i := range ops {
		if !v.watched(ops[i].Key) {
			continue
		}
		p, ok, err := pointerIn(txn, ops[i].Key)
		if err != nil {
			return nil, err
		}
		if ok {
			gone = append(gone, goneValue{p.file, p.record(ops[i].Key)})
		}
	}
	return gone, nil
}

// pointerIn is the pointer that the tree holds for key, if it holds one.
func pointerIn(txn *badger.Txn, key []byte) (p pointer, ok bool, err error) {
	item, err := txn.Get(key)
	if err == badger.ErrKeyNotFound {
		return p, false, nil
	}
	if err != nil || item.UserMeta()&metaPointer == 0 {
		return p, false, err
	}
	err = item.Value(func(b []byte) (err error) { p, err = decodePointer(b); return err })
	return p, err == nil, err
}

// append writes the bulky values of ops to the current file in one write, and
// returns where they lie. Nothing points to them yet. After an error the file is not
// appended to any more, and the store is as it was.
func (v *values) append(ops []Op) ([]*pointer, error) {
	if v.bulky == nil {
		return nil, nil
	}
	var need int64
	for i := range ops {
		if v.isBulky(&ops[i]) {
			need += recordLen(len(ops[i].Key), len(ops[i].Value))
		}
	}
	if need == 0 {
		return nil, nil
	}
	if v.cur != nil && v.cur.size+need > v.limit {
		v.seal()
	}
	buf := slices.Grow(v.buf[:0], fileHeadLen+int(need))
	if v.cur == nil {
		if err := v.create(); err != nil {
			return nil, err
		}
		buf = appendFileHead(buf, v.cur.id)
	}
	f, ptrs := v.cur, make([]*pointer, len(ops))
	for i := range ops {
		if v.isBulky(&ops[i]) {
			var p pointer
			buf, p = appendRecord(buf, f.id, f.size+int64(len(buf)), ops[i].Key, ops[i].Value)
			ptrs[i] = &p
		}
	}
	if v.buf = buf; cap(buf) > keepBuf {
		v.buf = nil
	}
	if _, err := f.f.WriteAt(buf, f.size); err != nil {
		v.seal()
		return nil, err
	}
	f.size += int64(len(buf))
	return ptrs, nil
}

func (v *values) isBulky(op *Op) bool {
	if op.Value == nil {
		return false
	}
	least := v.bulky(op.Key)
	return least > 0 && len(op.Value) >= least
}

// create begins a new file.
func (v *values) create() error {
	f := &valueFile{id: v.next}
	v.next++ // also when it fails: no number is used twice
	var err error
	if f.f, err = v.fs.Create(v.path(f)); err != nil {
		return err
	}
	v.cur = f
	v.mu.Lock()
	v.files[f.id] = f
	v.mu.Unlock()
	return nil
}

// seal ends the current file: nothing is appended to it any more.
func (v *values) seal() {
	f := v.cur
	if f == nil {
		return
	}
	v.cur, f.sealed = nil, true
	v.sealed.files++
	v.sealed.size += f.size
	v.sealed.live += f.live
	if f.live == 0 {
		v.retire(f)
	}
}

// spare takes a sealed file that can't be walked from those to be cleaned.
func (v *values) spare(f *valueFile) {
	if f.bad || f.live == 0 {
		return
	}
	f.bad = true
	v.sealed.files--
	v.sealed.size -= f.size
	v.sealed.live -= f.live
}

// retire has a sealed file without live records removed when no snapshot needs it.
func (v *values) retire(f *valueFile) {
	if !f.bad {
		v.sealed.files--
		v.sealed.size -= f.size
	}
	v.dead = append(v.dead, f)
}

// commit counts a batch that the tree has taken under version.
func (v *values) commit(ops []Op, b valueBatch, version uint64) {
	for i, p := range b.ptrs {
		if p != nil {
			v.cur.live += p.record(ops[i].Key)
		}
	}
	for _, g := range b.gone {
		if f := v.files[g.file]; f != nil {
			v.kill(f, g.size, version)
		}
	}
	if v.due() {
		v.wake()
	}
}

// kill notes that version no longer needs n bytes of a file.
func (v *values) kill(f *valueFile, n int64, version uint64) {
	n = min(n, f.live)
	if n == 0 {
		return
	}
	f.live -= n
	f.death = version
	if !f.sealed {
		return
	}
	if !f.bad {
		v.sealed.live -= n
	}
	if f.live == 0 {
		v.retire(f)
	}
}

// close closes the files. Nobody reads any more.
func (v *values) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	for _, f := range v.files {
		if cerr := f.f.Close(); err == nil {
			err = cerr
		}
	}
	v.files, v.cur, v.dead = map[uint32]*valueFile{}, nil, nil
	return err
}
