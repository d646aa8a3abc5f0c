package drive_test

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/internal/vfs/errorfs"
	"twofold/internal/vfs/memfs"
)

// rig is a drive on a memfs that can be made to fail.
type rig struct {
	m  *memfs.FS
	fs *errorfs.FS
	c  twofold.ClusterID
	d  *drive.Local
}

// shortDeadline is that of drives that are made to hang; the others have the default
// one, so that a busy machine is not taken for a hanging disk.
const shortDeadline = 300 * time.Millisecond

func newRig(t *testing.T, reserve int64, deadline time.Duration) *rig {
	t.Helper()
	m := memDrive(t)
	r := &rig{m: m, fs: errorfs.New(m), c: twofold.NewUUID()}
	if err := drive.WriteFormat(m, "/disk", testFormat(r.c)); err != nil {
		t.Fatal(err)
	}
	var err error
	r.d, err = drive.Open(t.Context(), drive.Options{FS: r.fs, Path: "/disk", Reserve: reserve, Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.d.Close()
		for range 1000 { // calls that hung may end now
			if r.d.Gathers() == 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("%d buffers did not come back", r.d.Gathers())
	})
	return r
}

func (r *rig) put(ctx context.Context, n uint64, size int64) ([][]byte, error) {
	return drivetest.Put(ctx, r.d, drivetest.Header(r.c, twofold.MakeBlobID(1, n)), size, n, "")
}

// leftovers counts the files in tmp.
func (r *rig) leftovers(t *testing.T) (n int) {
	t.Helper()
	if err := r.m.List("/disk/tmp", func(vfs.Entry) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !fn(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func watch(t *testing.T, w drive.Watched, handle func(drive.Event)) *drive.Monitor {
	t.Helper()
	m := drive.NewMonitor(drive.MonitorOptions{Interval: 5 * time.Millisecond, Slow: time.Second, Handle: handle})
	m.Watch(w)
	t.Cleanup(m.Stop)
	return m
}

// Every operation of a commit fails once, with each error: the shard is not
// acknowledged, not found, and nothing of it is left behind.
func TestFailingWrites(t *testing.T) {
	for _, tt := range []struct {
		err   syscall.Errno
		kind  errs.Kind
		state drive.State
	}{
		{syscall.EIO, errs.Unavailable, drive.Suspect},
		{syscall.ENOSPC, errs.NoSpace, drive.Full},
		{syscall.EDQUOT, errs.NoSpace, drive.Full},
		{syscall.EROFS, errs.ReadOnly, drive.Suspect},
		{syscall.EMFILE, errs.Unavailable, drive.Online},
	} {
		for name, op := range map[string]errorfs.Op{
			"create": errorfs.Create, "write": errorfs.Write, "fsync": errorfs.Sync, "rename": errorfs.Rename,
		} {
			for _, size := range []int64{10, 100 * drivetest.Stripe} {
				r := newRig(t, -1, 0)
				i := r.fs.Inject(errorfs.Rule{Ops: op, Path: "/tmp/", Times: 1, Err: tt.err, Partial: true})
				if op == errorfs.Rename {
					i.Remove()
					i = r.fs.Inject(errorfs.Rule{Ops: op, Path: "/blobs/", Times: 1, Err: tt.err})
				}
				_, err := r.put(t.Context(), 1, size)
				if !errs.Is(err, tt.kind) || i.Hits() != 1 {
					t.Fatalf("%s: %v: %v, want %v (%d hits)", name, tt.err, err, tt.kind, i.Hits())
				}
				if s := r.d.State(); s != tt.state {
					t.Fatalf("%s: %v: state %v, want %v", name, tt.err, s, tt.state)
				}
				if _, err := r.d.Stat(t.Context(), twofold.MakeBlobID(1, 1)); !errs.Is(err, errs.NotFound) {
					t.Fatalf("%s: %v: found: %v", name, tt.err, err)
				}
				if n := r.leftovers(t); n != 0 {
					t.Fatalf("%s: %v: %d files left in tmp", name, tt.err, n)
				}
				watch(t, drive.Watched{Slot: drive.NewSlot(twofold.SetID{}, 0, r.d), Drive: r.d}, nil)
				eventually(t, "online again after "+tt.err.Error(), func() bool { return r.d.State() == drive.Online })
				if _, err := r.put(t.Context(), 1, size); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A directory's fsync that fails is a commit that failed.
func TestFailingDirectorySync(t *testing.T) {
	r := newRig(t, -1, 0)
	r.fs.Inject(errorfs.Rule{Ops: errorfs.SyncDir, Path: "/blobs/", Times: 1, Err: syscall.EIO})
	if _, err := r.put(t.Context(), 1, 10); !errs.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	if _, err := r.put(t.Context(), 1, 10); err != nil {
		t.Fatal(err)
	}
}

// What the medium does not give back is as good as corrupt; a drive that fails all
// test writes is offline until one works.
func TestFailingReadsAndProbes(t *testing.T) {
	r := newRig(t, -1, 0)
	blocks, err := r.put(t.Context(), 1, 100*drivetest.Stripe)
	if err != nil {
		t.Fatal(err)
	}
	b := twofold.MakeBlobID(1, 1)
	i := r.fs.Inject(errorfs.Rule{Ops: errorfs.Read, Path: "/blobs/", Skip: 3, Times: 1, Err: syscall.EIO})
	if err := drivetest.Verify(t.Context(), r.d, b, blocks); !errs.Is(err, errs.Corrupt) || i.Hits() != 1 {
		t.Fatalf("%v, %d hits", err, i.Hits())
	}
	i = r.fs.Inject(errorfs.Rule{Ops: errorfs.Sync, Err: syscall.EIO})
	watch(t, drive.Watched{Slot: drive.NewSlot(twofold.SetID{}, 0, r.d), Drive: r.d}, nil)
	eventually(t, "offline", func() bool { return r.d.State() == drive.Offline })
	if err := drivetest.Verify(t.Context(), r.d, b, blocks); !errs.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	i.Remove()
	eventually(t, "online", func() bool { return r.d.State() == drive.Online })
	if err := drivetest.Verify(t.Context(), r.d, b, blocks); err != nil {
		t.Fatal(err)
	}
}

// A full drive refuses shards while its reserve is untouched, still reads and
// deletes, and is of use again when there is space.
func TestReserve(t *testing.T) {
	r := newRig(t, 1<<20, 0)
	r.m.SetCapacity(4 << 20)
	var n uint64
	var err error
	for err == nil && n < 1000 {
		n++
		_, err = r.put(t.Context(), n, 3*drivetest.Stripe)
	}
	if !errs.Is(err, errs.NoSpace) || r.d.State() != drive.Full {
		t.Fatalf("%v, state %v", err, r.d.State())
	}
	if s, _ := r.m.StatFS("/"); s.Free < 1<<20 || s.Free > 1<<20+4*drivetest.Stripe {
		t.Fatalf("%d bytes are free", s.Free)
	}
	if _, err := r.put(t.Context(), 2000, 1); !errs.Is(err, errs.NoSpace) {
		t.Fatal(err)
	}
	if _, err := r.d.Stat(t.Context(), twofold.MakeBlobID(1, 1)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := r.d.Delete(t.Context(), twofold.MakeBlobID(1, i)); err != nil {
			t.Fatal(err)
		}
	}
	watch(t, drive.Watched{Slot: drive.NewSlot(twofold.SetID{}, 0, r.d), Drive: r.d}, nil)
	eventually(t, "online", func() bool { return r.d.State() == drive.Online })
	if _, err := r.put(t.Context(), 2000, 1); err != nil {
		t.Fatal(err)
	}
}

// When the file system hangs, callers come back at their deadline, and at once when
// the drive is known to hang; when it answers again, so does the drive.
func TestHang(t *testing.T) {
	r := newRig(t, -1, shortDeadline)
	watch(t, drive.Watched{Slot: drive.NewSlot(twofold.SetID{}, 0, r.d), Drive: r.d}, nil)
	blocks, err := r.put(t.Context(), 1, 100*drivetest.Stripe)
	if err != nil {
		t.Fatal(err)
	}
	for name, ops := range map[string]errorfs.Op{
		"write": errorfs.Write, "fsync": errorfs.Sync, "everything": errorfs.All,
	} {
		hang := r.fs.Inject(errorfs.Rule{Ops: ops, Hang: true})
		start := time.Now()
		if _, err := r.put(t.Context(), 2, 100*drivetest.Stripe); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 100*shortDeadline {
			t.Fatalf("%s: the caller was held up for %v", name, took)
		}
		eventually(t, "offline", func() bool { return r.d.State() == drive.Offline })
		start = time.Now()
		err := drivetest.Verify(t.Context(), r.d, twofold.MakeBlobID(1, 1), blocks)
		if !errs.Is(err, errs.Unavailable) || time.Since(start) > 30*shortDeadline {
			t.Fatalf("%s: %v after %v", name, err, time.Since(start))
		}
		hang.Remove()
		eventually(t, "online", func() bool { return r.d.State() == drive.Online })
		eventually(t, "tmp is empty", func() bool { return r.leftovers(t) == 0 })
		if err := drivetest.Verify(t.Context(), r.d, twofold.MakeBlobID(1, 1), blocks); err != nil {
			t.Fatal(err)
		}
		if _, err := r.d.Stat(t.Context(), twofold.MakeBlobID(1, 2)); !errs.Is(err, errs.NotFound) {
			t.Fatalf("%s: a shard that nobody waited for was committed: %v", name, err)
		}
	}
}

// A caller whose context ends leaves at once, though the read it waits for hangs,
// and the read does not touch the caller's buffer afterwards (-race tells).
func TestCancelWhileHanging(t *testing.T) {
	r := newRig(t, -1, shortDeadline)
	if _, err := r.put(t.Context(), 1, 100*drivetest.Stripe); err != nil {
		t.Fatal(err)
	}
	s, err := r.d.Open(t.Context(), twofold.MakeBlobID(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hang := r.fs.Inject(errorfs.Rule{Ops: errorfs.Read, Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	p := make([]byte, drivetest.Stripe)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.ReadBlocks(ctx, 0, 1, p); !errs.Is(err, errs.Canceled) {
			t.Error(err)
		}
	})
	eventually(t, "it hangs", func() bool { return hang.Hits() == 1 })
	cancel()
	wg.Wait()
	hang.Remove()
	clear(p)
	eventually(t, "it reads again", func() bool {
		_, err := s.ReadBlocks(t.Context(), 0, 1, p)
		return err == nil
	})
}

// After rm -rf open files still fsync happily: that must not count.
func TestRemovedUnderAWriter(t *testing.T) {
	dir := t.TempDir() + "/drive"
	c := twofold.NewUUID()
	for name, remove := range map[string]func() error{
		"all":    func() error { return os.RemoveAll(dir) },
		"format": func() error { return os.Remove(dir + "/format.json") },
	} {
		os.RemoveAll(dir)
		d := open(t, vfs.OS(), dir, c)
		h := drivetest.Header(c, twofold.MakeBlobID(1, 1))
		w, err := d.Create(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		blocks := drivetest.Blocks(h, 100*drivetest.Stripe, 1)
		for i, b := range blocks {
			if i == 80 {
				if err := remove(); err != nil {
					t.Fatal(err)
				}
			}
			if err = w.WriteBlock(b); err != nil {
				break
			}
		}
		if err == nil {
			err = w.Commit(drive.ShardTrailer{Size: 100 * drivetest.Stripe})
		}
		if !errs.Is(err, errs.Unavailable) {
			t.Fatalf("%s removed: commit says %v", name, err)
		}
		if d.State() != drive.Offline {
			t.Fatalf("%s removed: %v after %v", name, d.State(), err)
		}
		if _, err := d.Open(t.Context(), h.Blob); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("%s removed: open says %v", name, err)
		}
		d.Close()
	}
}

// Opening a drive that hangs, or fails at any step, comes back with an error, and
// leaves no lock behind.
func TestOpenFails(t *testing.T) {
	r := newRig(t, -1, 0)
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	opt := drive.Options{FS: r.fs, Path: "/disk", Reserve: -1, Deadline: shortDeadline}
	hang := r.fs.Inject(errorfs.Rule{Ops: errorfs.SyncDir, Hang: true})
	if _, err := drive.Open(t.Context(), opt); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("hanging: %v", err)
	}
	hang.Remove()
	eventually(t, "what hung has ended, and given the lock back", func() bool {
		d, err := drive.Open(t.Context(), opt)
		if err == nil {
			d.Close()
		}
		return err == nil
	})
	for skip := 0; ; skip++ {
		i := r.fs.Inject(errorfs.Rule{Ops: errorfs.All &^ errorfs.Close, Skip: skip, Times: 1, Err: syscall.EIO})
		d, err := drive.Open(t.Context(), opt)
		i.Remove()
		switch {
		case i.Hits() == 0 && err != nil:
			t.Fatalf("no error was injected, and yet: %v", err)
		case i.Hits() == 1 && (err == nil || errs.Is(err, errs.Busy)):
			t.Fatalf("with an error at step %d: %v", skip, err)
		}
		if d != nil {
			d.Close()
			if skip < 10 {
				t.Fatalf("opened after %d steps", skip)
			}
			return
		}
	}
}

// A drive on a read-only file system opens, reads, and refuses writes; it is online
// again when it can be written.
func TestReadOnly(t *testing.T) {
	r := newRig(t, -1, 0)
	blocks, err := r.put(t.Context(), 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	r.d.Close()
	r.m.SetReadOnly(true)
	r.d, err = drive.Open(t.Context(), drive.Options{FS: r.fs, Path: "/disk", Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := drivetest.Verify(t.Context(), r.d, twofold.MakeBlobID(1, 1), blocks); err != nil {
		t.Fatal(err)
	}
	if _, err := r.put(t.Context(), 2, 1000); !errs.Is(err, errs.ReadOnly) {
		t.Fatal(err)
	}
	watch(t, drive.Watched{Slot: drive.NewSlot(twofold.SetID{}, 0, r.d), Drive: r.d}, nil)
	time.Sleep(30 * time.Millisecond) // some looks: it must not go offline
	if s := r.d.State(); s != drive.Suspect {
		t.Fatal(s)
	}
	r.m.SetReadOnly(false)
	eventually(t, "online", func() bool { return r.d.State() == drive.Online })
	if _, err := r.put(t.Context(), 2, 1000); err != nil {
		t.Fatal(err)
	}
}
