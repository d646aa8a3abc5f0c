package kv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/internal/vfs/errorfs"
)

// bulkyFrom makes every value of so many bytes bulky.
func bulkyFrom(least int) func([]byte) int { return func([]byte) int { return least } }

// checkLive compares what is counted as alive with what the tree points to.
func checkLive(t interface{ Fatalf(string, ...any) }, b *Badger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := map[uint32]int64{}
	txn := b.db.NewTransactionAt(b.reads.version(), false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if p, ok, err := pointerIn(txn, it.Item().KeyCopy(nil)); err != nil {
			t.Fatalf("key %x: %v", it.Item().Key(), err)
		} else if ok {
			want[p.file] += p.record(it.Item().Key())
		}
	}
	var sum tally
	for id, f := range b.values.files {
		if f.live != want[id] {
			t.Fatalf("file %d: %d bytes are alive, counted as %d", id, want[id], f.live)
		}
		delete(want, id)
		if f.sealed && !f.bad && f.live > 0 {
			sum.files, sum.size, sum.live = sum.files+1, sum.size+f.size, sum.live+f.live
		}
	}
	if len(want) > 0 || sum != b.values.sealed {
		t.Fatalf("files that are gone but needed: %v; sums %+v, not %+v", want, b.values.sealed, sum)
	}
}

// quiet waits until the cleaner has nothing to do, and has done it.
func quiet(t *testing.T, b *Badger) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		due, files := b.values.due(), len(b.values.files)
		b.mu.Unlock()
		if _, n := onDisk(t, b); !due && n == files {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the cleaner does not come to an end")
		}
	}
}

// onDisk is the bytes of a live directory's value files, and how many there are.
func onDisk(t *testing.T, b *Badger) (size int64, n int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.dir, valuePrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil {
			size, n = size+info.Size(), n+1
		}
	}
	return size, n
}

func value(n, seed int) []byte { return bytes.Repeat([]byte{byte('a' + seed%26)}, n) }

// fill writes keys k0.. of one batch each.
func fill(t *testing.T, b *Badger, n, size, seed int) {
	t.Helper()
	for i := range n {
		if err := b.Write([]Op{{fmt.Appendf(nil, "k%03d", i), value(size, seed+i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// get reads one key in a snapshot of its own.
func get(b *Badger, key string) (v []byte, err error) {
	verr := b.View(func(r Reader) error {
		v, err = r.Get([]byte(key))
		v = bytes.Clone(v)
		return nil
	})
	return v, errors.Join(verr, err)
}

// TestSpace: value files stay within the bound that clean.go states, whatever is
// overwritten and deleted, and are few.
func TestSpace(t *testing.T) {
	const limit = 16 << 10
	base := t.TempDir()
	b := openTest(t, filepath.Join(base, "kv"), Options{Bulky: bulkyFrom(100), valueFileSize: limit})
	check := func(what string) {
		t.Helper()
		quiet(t, b)
		checkLive(t, b)
		b.mu.Lock()
		var live int64
		for _, f := range b.values.files {
			live += f.live
		}
		b.mu.Unlock()
		size, n := onDisk(t, b)
		if size > 2*live+2*limit || n > fewFiles+1+int(2*size/limit) {
			t.Errorf("%s: %d bytes in %d files for %d live ones", what, size, n, live)
		}
	}
	for round := range 6 { // every third key lives longer than the others, mixed in every file
		for i := range 120 {
			if round == 0 || i%3 != 0 {
				if err := b.Write([]Op{{fmt.Appendf(nil, "k%03d", i), value(1000, round+i)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	check("after overwrites")
	if size, _ := onDisk(t, b); size < 120_000 {
		t.Errorf("%d bytes: the values are not in the files", size)
	}
	for i := range 120 {
		want := i + 5
		if i%3 == 0 {
			want = i
		}
		if v, err := get(b, fmt.Sprintf("k%03d", i)); !bytes.Equal(v, value(1000, want)) {
			t.Fatalf("k%03d: %.10q, %v", i, v, err)
		}
	}
	for i := range 60 { // each seals a file of one record
		put(t, b, fmt.Sprintf("small%d", i), strings.Repeat("s", 200))
		if err := b.Checkpoint(filepath.Join(base, fmt.Sprint("cp", i))); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(filepath.Join(base, fmt.Sprint("cp", i-1)))
	}
	check("after many checkpoints")
	var ops []Op
	for i := range 120 {
		ops = append(ops, Op{Key: fmt.Appendf(nil, "k%03d", i)})
	}
	if err := b.Write(ops); err != nil {
		t.Fatal(err)
	}
	check("after deletes")
}

// TestOldSnapshot: a snapshot reads what it began with, also when the values are
// deleted or moved and their files cleaned; the files go when it ends.
func TestOldSnapshot(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{Bulky: bulkyFrom(100), valueFileSize: 8 << 10})
	fill(t, b, 60, 1000, 0)
	err := b.View(func(r Reader) error {
		fill(t, b, 60, 1000, 7)
		fill(t, b, 60, 1000, 9)
		for i := range 60 {
			if i%4 != 0 {
				put(t, b, fmt.Sprintf("k%03d", i), "gone")
			}
		}
		moved := func() bool { // everything that was alive in the first files
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.values.victim() == nil
		}
		for end := time.Now().Add(time.Minute); !moved(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing is cleaned while a snapshot is open")
			}
		}
		for i := range 60 {
			v, err := r.Get(fmt.Appendf(nil, "k%03d", i))
			if err != nil || !bytes.Equal(v, value(1000, i)) {
				t.Fatalf("k%03d in an old snapshot: %.10q, %v", i, v, err)
			}
		}
		if size, _ := onDisk(t, b); size < 60_000 {
			t.Errorf("%d bytes: the old values' files are gone", size)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	quiet(t, b)
	if size, _ := onDisk(t, b); size > 2*15*1100+2*8<<10 {
		t.Errorf("%d bytes are left for 15 values", size)
	}
}

// TestCheckpointOutlivesCleaning: what a checkpoint holds stays, though the store
// that it was made of, and one that was restored from it, change and are cleaned.
func TestCheckpointOutlivesCleaning(t *testing.T) {
	base := t.TempDir()
	o := Options{Bulky: bulkyFrom(100), valueFileSize: 8 << 10}
	b := openTest(t, filepath.Join(base, "kv"), o)
	fill(t, b, 40, 1000, 0)
	want := dumpAll(t, b)
	cp := filepath.Join(base, "cp")
	if err := b.Checkpoint(cp); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		fill(t, b, 40, 1000, n+1)
		quiet(t, b)
		o.Checkpoint, o.Fresh = cp, true
		c := openTest(t, filepath.Join(base, "restored"), o)
		if got := dumpAll(t, c); got != want {
			t.Fatalf("restored: %d bytes of content, not %d", len(got), len(want))
		}
		checkLive(t, c)
		fill(t, c, 40, 1000, n+5)
		quiet(t, c)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := VerifyCheckpoint(cp); err != nil {
			t.Fatal(err)
		}
	}
}

// TestValuesReopen: a clean stop keeps the values, any other takes those of the
// checkpoint, and what was not needed is removed.
func TestValuesReopen(t *testing.T) {
	base := t.TempDir()
	o := Options{Bulky: bulkyFrom(100), valueFileSize: 4 << 10, Checkpoint: filepath.Join(base, "cp")}
	dir := filepath.Join(base, "kv")
	b := openTest(t, dir, Options{Bulky: o.Bulky, valueFileSize: o.valueFileSize})
	fill(t, b, 10, 1000, 0)
	if err := b.Checkpoint(o.Checkpoint); err != nil {
		t.Fatal(err)
	}
	saved := dumpAll(t, b)
	fill(t, b, 10, 1000, 3)
	last := dumpAll(t, b)
	quiet(t, b) // so that no file goes while it is copied
	// The image of a process that was killed.
	quiet(t, b) // no file goes while it is copied
	if err := os.CopyFS(filepath.Join(base, "crash"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = openTest(t, dir, o)
		if got := dumpAll(t, b); got != last {
			t.Fatalf("after a clean stop: %.40s", got)
		}
		checkLive(t, b)
		quiet(t, b)
	}
	c := openTest(t, filepath.Join(base, "crash"), o)
	if got := dumpAll(t, c); got != saved {
		t.Errorf("after a crash: %.40s", got)
	}
	// A file that is not what the list says is not used.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, valueListName)); err != nil {
		t.Fatal(err)
	}
	if got := dumpAll(t, openTest(t, dir, o)); got != saved {
		t.Errorf("after the list was lost: %.40s", got)
	}
}

// TestVersionOfList: a store without value files is one that older programs read.
func TestVersionOfList(t *testing.T) {
	for want, bulky := range map[int]func([]byte) int{fileListVersion: nil, valuesListVersion: bulkyFrom(1)} {
		b := openTest(t, t.TempDir(), Options{Bulky: bulky})
		put(t, b, "a", "1")
		cp := filepath.Join(t.TempDir(), "cp")
		if err := b.Checkpoint(cp); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(cp, checkpointList))
		var l fileList
		if err := errors.Join(err, json.Unmarshal(raw, &l)); err != nil || l.Version != want {
			t.Errorf("version %d, not %d: %v", l.Version, want, err)
		}
	}
}

// TestDamagedValue: a value that is not as it was written is an error of its own
// key, and of those who read values alone.
func TestDamagedValue(t *testing.T) {
	for what, harm := range map[string]func(path string, at int64) error{
		"a flipped byte": func(path string, at int64) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			var b [1]byte
			if _, err := f.ReadAt(b[:], at); err != nil {
				return err
			}
			b[0] ^= 1
			_, err = f.WriteAt(b[:], at)
			return err
		},
		"a short file": os.Truncate,
	} {
		t.Run(what, func(t *testing.T) {
			b := openTest(t, t.TempDir(), Options{Bulky: bulkyFrom(100)})
			put(t, b, "good", strings.Repeat("g", 500), "small", "s", "zbad", strings.Repeat("b", 500))
			paths, _ := filepath.Glob(filepath.Join(b.dir, valuePrefix+"*"))
			if len(paths) != 1 {
				t.Fatal(paths)
			}
			info, err := os.Stat(paths[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := harm(paths[0], info.Size()-100); err != nil {
				t.Fatal(err)
			}
			var damage *Damage
			if v, err := get(b, "zbad"); v != nil || !errs.Is(err, errs.Corrupt) || !errors.As(err, &damage) {
				t.Errorf("the value: %.10q, %v", v, err)
			}
			for _, k := range []string{"good", "small"} {
				if v, err := get(b, k); v == nil || err != nil {
					t.Errorf("%s: %v", k, err)
				}
			}
			err = b.View(func(r Reader) error {
				it, n := r.Iter(nil, nil), 0
				for ok := it.Seek(nil); ok; ok = it.Next() {
					n++
				}
				if n != 3 {
					t.Errorf("%d keys", n)
				}
				return it.Close()
			})
			if err != nil {
				t.Errorf("a walk over keys reads values: %v", err)
			}
			put(t, b, "zbad", "new")
			if v, err := get(b, "zbad"); string(v) != "new" {
				t.Errorf("overwritten: %q, %v", v, err)
			}
		})
	}
}

// TestCleanDamaged: a file that can't be walked is left alone: what can be read in it
// stays readable, and the cleaner goes on with others.
func TestCleanDamaged(t *testing.T) {
	b := openTest(t, t.TempDir(), Options{Bulky: bulkyFrom(100), valueFileSize: 4 << 10})
	fill(t, b, 12, 1000, 0)
	f, err := os.OpenFile(filepath.Join(b.dir, valueName(1)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, fileHeadLen+8); err != nil { // the first record's length
		t.Fatal(err)
	}
	for i := range 12 {
		if i%3 != 2 {
			put(t, b, fmt.Sprintf("k%03d", i), "gone")
		}
	}
	quiet(t, b)
	checkLive(t, b)
	for i := 2; i < 12; i += 3 {
		if v, err := get(b, fmt.Sprintf("k%03d", i)); !bytes.Equal(v, value(1000, i)) {
			t.Errorf("k%03d: %.10q, %v", i, v, err)
		}
	}
}

// TestFullDrive: a write that fails half-way changes nothing that can be seen, and
// the store takes no more; what the next Open finds is the checkpoint.
func TestFullDrive(t *testing.T) {
	for _, op := range []errorfs.Op{errorfs.Write, errorfs.Create} {
		base := t.TempDir()
		fsys := errorfs.New(vfs.OS())
		o := Options{Bulky: bulkyFrom(100), valueFileSize: 1500, fs: fsys}
		b := openTest(t, filepath.Join(base, "kv"), o)
		fill(t, b, 3, 1000, 0)
		o.Checkpoint = filepath.Join(base, "cp")
		if err := b.Checkpoint(o.Checkpoint); err != nil {
			t.Fatal(err)
		}
		want := dumpAll(t, b)
		rule := fsys.Inject(errorfs.Rule{Ops: op, Path: valuePrefix, Err: syscall.ENOSPC, Partial: true})
		err := b.Write([]Op{{[]byte("a"), []byte("1")}, {[]byte("k000"), value(1000, 9)}})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a full drive: %v", err)
		}
		rule.Remove()
		if got := dumpAll(t, b); got != want {
			t.Errorf("after a failed write: %.40s", got)
		}
		if err := b.Write([]Op{{[]byte("b"), []byte("2")}}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a failed store takes a write: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if got := dumpAll(t, openTest(t, filepath.Join(base, "kv"), o)); got != want {
			t.Errorf("after a restart: %.40s", got)
		}
	}
}

// TestCleanerOnFullDrive: the cleaner, which needs space to give some back, does not
// take the store down when there is none.
func TestCleanerOnFullDrive(t *testing.T) {
	fsys := errorfs.New(vfs.OS())
	b := openTest(t, t.TempDir(), Options{Bulky: bulkyFrom(100), valueFileSize: 4 << 10, fs: fsys})
	fill(t, b, 40, 1000, 0)
	rule := fsys.Inject(errorfs.Rule{Ops: errorfs.Write | errorfs.Create, Path: valuePrefix, Err: syscall.ENOSPC, Partial: true})
	defer rule.Remove()
	for i := range 40 {
		if i%3 != 0 {
			put(t, b, fmt.Sprintf("k%03d", i), "gone")
		}
	}
	for end := time.Now().Add(time.Minute); rule.Hits() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the cleaner did not try")
		}
	}
	put(t, b, "more", "1")
	checkLive(t, b)
	rule.Remove()
	fill(t, b, 3, 1000, 5)
	for i := 3; i < 40; i += 3 {
		if v, err := get(b, fmt.Sprintf("k%03d", i)); !bytes.Equal(v, value(1000, i)) {
			t.Errorf("k%03d: %.10q, %v", i, v, err)
		}
	}
}
