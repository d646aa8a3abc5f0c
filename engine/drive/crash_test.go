package drive_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/internal/vfs/errorfs"
	"twofold/internal/vfs/memfs"
)

// memDrive is the directory of a drive in a new memfs.
func memDrive(t testing.TB) *memfs.FS {
	t.Helper()
	m := memfs.New()
	if err := m.Mkdir("/disk"); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConformanceMem(t *testing.T) {
	drivetest.Run(t, func(t *testing.T, c twofold.ClusterID) drive.Drive {
		return open(t, memDrive(t), "/disk", c)
	})
}

// promised is what was acknowledged when the power failed.
type promised struct {
	formatted bool
	// may are the contents that a blob may have: one once acknowledged, several
	// while it is replaced, and nil among them while it is written or deleted.
	may map[twofold.BlobID][][][]byte
}

// TestCrashAtEveryStep formats a drive and writes, replaces and deletes shards. The
// power fails before every single operation of the file system, in several ways;
// each time the drive must open again, with every acknowledged shard whole, and
// nothing torn under any name.
func TestCrashAtEveryStep(t *testing.T) {
	m := memDrive(t)
	fsys := errorfs.New(m)
	cluster := twofold.NewUUID()
	var mu sync.Mutex
	now := promised{may: make(map[twofold.BlobID][][][]byte)}
	steps := 0
	fsys.OnOp(func(n int, op errorfs.Op, name string) {
		if op&errorfs.Writes == 0 {
			return // nothing changes
		}
		mu.Lock()
		defer mu.Unlock()
		if steps++; t.Failed() {
			return // one finding is enough
		}
		for i, keep := range []float64{0, 0.5, 0.5, 1} {
			seed := uint64(n*10 + i)
			disk := m.Crash(rand.New(rand.NewPCG(seed, 7)), keep)
			if err := checkCrashed(t, disk, cluster, &now); err != nil {
				t.Errorf("power failed before operation %d (%b %s), seed %d, keep %v: %v", n, op, name, seed, keep, err)
			}
		}
	})
	set := func(fn func()) { mu.Lock(); defer mu.Unlock(); fn() }

	if err := drive.WriteFormat(fsys, "/disk", testFormat(cluster)); err != nil {
		t.Fatal(err)
	}
	set(func() { now.formatted = true })
	d, err := drive.Open(t.Context(), drive.Options{FS: fsys, Path: "/disk", Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	put := func(b twofold.BlobID, size int64, seed uint64) {
		h := drivetest.Header(cluster, b)
		blocks := drivetest.Blocks(h, size, seed)
		set(func() {
			if len(now.may[b]) == 0 {
				now.may[b] = [][][]byte{nil}
			}
			now.may[b] = append(now.may[b], blocks)
		})
		if _, err := drivetest.Put(t.Context(), d, h, size, seed, "test"); err != nil {
			t.Fatal(err)
		}
		set(func() { now.may[b] = [][][]byte{blocks} })
	}
	id := func(n uint64) twofold.BlobID { return twofold.MakeBlobID(3, n) }
	put(id(1), 100, 1)
	put(id(2), 3*drivetest.Stripe+5, 2)
	put(id(0x101), 40*drivetest.Stripe, 3) // shares its directory with id(1)
	put(id(2), 3*drivetest.Stripe+5, 4)    // replaces
	set(func() { now.may[id(1)] = append(now.may[id(1)], nil) })
	if err := d.Delete(t.Context(), id(1)); err != nil {
		t.Fatal(err)
	}
	put(id(3), 0, 5)
	for _, healing := range []bool{true, false} {
		if err := d.SetHealing(t.Context(), healing); err != nil {
			t.Fatal(err)
		}
	}
	if steps < 50 {
		t.Fatalf("only %d steps", steps)
	}
}

// checkCrashed opens what the crash left and compares it with what was promised.
func checkCrashed(t *testing.T, disk vfs.FS, cluster twofold.ClusterID, p *promised) error {
	ctx := t.Context()
	d, err := drive.Open(ctx, drive.Options{FS: disk, Path: "/disk", Reserve: -1})
	if errs.Is(err, errs.NotFound) && !p.formatted {
		return drive.WriteFormat(disk, "/disk", testFormat(cluster))
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for b, may := range p.may {
		if err := isOneOf(t, d, b, may); err != nil {
			return err
		}
	}
	err = d.Walk(ctx, twofold.BlobID{}, func(b twofold.BlobID) error {
		if _, known := p.may[b]; !known {
			return fmt.Errorf("blob %s was never written", b)
		}
		return nil
	})
	if err != nil {
		return err
	}
	h := drivetest.Header(cluster, twofold.MakeBlobID(4, 4))
	if _, err := drivetest.Put(ctx, d, h, 1000, 1, ""); err != nil {
		return fmt.Errorf("write after the crash: %w", err)
	}
	return nil
}

func isOneOf(t *testing.T, d drive.Drive, b twofold.BlobID, may [][][]byte) error {
	var err error
	for _, blocks := range may {
		if blocks == nil {
			if _, err = d.Stat(t.Context(), b); errs.Is(err, errs.NotFound) {
				return nil
			}
		} else if err = drivetest.Verify(t.Context(), d, b, blocks); err == nil {
			return nil
		}
	}
	return fmt.Errorf("blob %s is none of the %d things it may be: %w", b, len(may), err)
}
