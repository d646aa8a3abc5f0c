package fusefs

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

func TestUnlinkAndRenameWhileOpen(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	ctx := context.Background()
	f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0644)
	must(t, err)
	_, err = f.WriteString("before ")
	must(t, err)
	must(t, os.Remove(m.path("f")))
	_, err = f.WriteString("after")
	must(t, err)
	must(t, f.Sync())
	st, err := f.Stat()
	must(t, err)
	if n := st.Sys().(*syscall.Stat_t).Nlink; n != 0 || st.Size() != 12 {
		t.Fatalf("nlink %d, size %d", n, st.Size())
	}
	// Somebody puts a new object under the name, and another over that.
	for i := range 2 {
		a, _, err := s3.Create(ctx, twofold.RootIno, "new", api.Create{Type: metadata.TypeFile, Mode: 0644})
		must(t, err)
		_, err = s3.Write(ctx, a.Ino, api.Write{Segments: []api.Segment{{Data: fmt.Appendf(nil, "object %d", i)}}, Mtime: 1})
		must(t, err)
		must(t, s3.Rename(ctx, twofold.RootIno, "new", twofold.RootIno, "f", 0))
		wantFile(t, m.path("f"), fmt.Sprintf("object %d", i))
	}
	b := make([]byte, 20)
	n, err := f.ReadAt(b, 0)
	if err != io.EOF || string(b[:n]) != "before after" {
		t.Fatalf("the open file has %q, %v", b[:n], err)
	}
	ino := st.Sys().(*syscall.Stat_t).Ino
	must(t, f.Close())
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := s3.GetAttr(ctx, twofold.Ino(ino)); errs.Is(err, errs.Stale) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the inode is still pinned after the last close")
		}
	}
}

// TestRenameOverLoop: a reader of a name that is replaced all the time never sees
// ENOENT (rule 7), and with a volume that keeps a replaced inode for a moment no
// error at all.
func TestRenameOverLoop(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Second} {
		t.Run(fmt.Sprintf("grace=%v", grace), func(t *testing.T) {
			v := newFakeVolume()
			v.grace = grace
			m, s3 := mountFake(t, v, nil), v.session()
			must(t, os.WriteFile(m.path("f"), []byte("x"), 0644))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				ctx := context.Background()
				for {
					select {
					case <-stop:
						return
					default:
					}
					a, _, _ := s3.Create(ctx, twofold.RootIno, "tmp", api.Create{Type: metadata.TypeFile, Mode: 0644})
					s3.Write(ctx, a.Ino, api.Write{Segments: []api.Segment{{Data: []byte("x")}}, Mtime: twofold.Now()})
					s3.Rename(ctx, twofold.RootIno, "tmp", twofold.RootIno, "f", 0)
					time.Sleep(200 * time.Microsecond)
				}
			})
			stale, reads := 0, 0
			for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); reads++ {
				b, err := os.ReadFile(m.path("f"))
				switch {
				case err == nil && string(b) == "x":
				case errors.Is(err, syscall.ESTALE) && grace == 0:
					stale++
				default:
					t.Fatalf("read %q, %v", b, err)
				}
			}
			close(stop)
			wg.Wait()
			t.Logf("%d reads, %d of them ESTALE", reads, stale)
		})
	}
}

func TestTruncateAndHoles(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0644)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("0123456789")
	must(t, err)
	must(t, f.Truncate(4)) // dirty bytes beyond are forgotten
	must(t, f.Truncate(8)) // and come back as zeros
	wantFile(t, m.path("f"), "0123\x00\x00\x00\x00")
	_, err = f.WriteAt([]byte("far"), 20)
	must(t, err)
	want := "0123" + string(make([]byte, 16)) + "far"
	wantFile(t, m.path("f"), want)
	if got := s3.get(t, "f"); got != want {
		t.Fatalf("others see %q", got)
	}
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, 30))
	want += string(make([]byte, 7))
	wantFile(t, m.path("f"), want)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1, 20))
	want = "0" + string(make([]byte, 20)) + want[21:]
	wantFile(t, m.path("f"), want)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 25, 1000))
	wantErrno(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 10), syscall.EOPNOTSUPP)
	must(t, os.Truncate(m.path("f"), 2)) // by path, while it is dirty through f
	wantFile(t, m.path("f"), "0\x00")
	g, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	must(t, g.Close())
	wantFile(t, m.path("f"), "")
	wantErrno(t, f.Truncate(-1), syscall.EINVAL)
	_, err = f.WriteAt([]byte("x"), twofold.MaxFileLen)
	wantErrno(t, err, syscall.EFBIG)
}

// TestDigest: a file written from start to end has its MD5 as ETag, others don't.
func TestDigest(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // 48 MiB: several flushes
	sum := func(b []byte) string { h := md5.Sum(b); return hex.EncodeToString(h[:]) }
	must(t, os.WriteFile(m.path("big"), big, 0644))
	if got := s3.find(t, "big").ETag; got != sum(big) {
		t.Fatalf("big: ETag %q", got)
	}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	for i, step := range []struct {
		off  int64
		data string
		want string
	}{
		{0, "hello", sum([]byte("hello"))},
		{5, " world", sum([]byte("hello world"))}, // goes on after others looked
		{0, "J", "opaque"},
		{11, "!", "opaque"},
		{0, "everything anew", sum([]byte("everything anew"))}, // covers the whole file
	} {
		_, err := f.WriteAt([]byte(step.data), step.off)
		must(t, err)
		if got := s3.find(t, "f").ETag; got != step.want {
			t.Fatalf("step %d: ETag %q, want %q", i, got, step.want)
		}
	}
}

// TestBigFileInBoundedMemory streams a file that is larger than all buffers.
func TestBigFileInBoundedMemory(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, func(o *Options) { o.MaxDirty = 40 << 20 })
	f, err := os.Create(m.path("f"))
	must(t, err)
	v.mu.Lock()
	for _, in := range v.inodes {
		in.sink = true
	}
	v.mu.Unlock()
	var most atomic.Int64
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Write" {
			most.Store(max(most.Load(), m.s.f.budget.inUse()))
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	const size = 512 << 20
	b := bytes.Repeat([]byte("x"), 1<<20)
	start := time.Now()
	for range size / len(b) {
		_, err := f.Write(b)
		must(t, err)
	}
	must(t, f.Close())
	t.Logf("%.0f MB/s, at most %d MiB dirty, %d flushes", size/1e6/time.Since(start).Seconds(), most.Load()>>20, m.count("Write"))
	if most.Load() > 40<<20 {
		t.Fatalf("%d bytes were dirty", most.Load())
	}
	if n := m.count("Write"); n > size/streamAt+2 {
		t.Fatalf("%d flushes", n)
	}
	st, err := os.Stat(m.path("f"))
	if err != nil || st.Size() != size {
		t.Fatalf("%v, %v", st, err)
	}
}

// TestBudgetIsShared: many files share one small budget and all get on.
func TestBudgetIsShared(t *testing.T) {
	m := mountFake(t, newFakeVolume(), func(o *Options) { o.MaxDirty = 1 << 20 })
	b := bytes.Repeat([]byte("y"), 300<<10)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			f, err := os.Create(m.path(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for range 5 {
				if _, err := f.Write(b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 16 {
		wantFile(t, m.path(fmt.Sprint(i)), string(bytes.Repeat(b, 5)))
	}
}

func TestOldBytesAreFlushed(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, func(o *Options) { o.FlushAge = 40 * time.Millisecond })
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("x")
	must(t, err)
	for end := time.Now().Add(5 * time.Second); m.count("Write") == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not flushed")
		}
	}
	if len(m.holder.Held().Writes) != 1 {
		t.Fatal("the lease went with the flush")
	}
}

func TestSyncWrites(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	f, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_CREATE|os.O_SYNC, 0644)
	must(t, err)
	defer f.Close()
	for i := range 3 {
		_, err := f.WriteString("x")
		must(t, err)
		if n := m.count("Write"); n != i+1 {
			t.Fatalf("%d commits after %d writes", n, i+1)
		}
	}
}

func TestDirectIO(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE|syscall.O_DIRECT, 0644)
	must(t, err)
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	defer unix.Munmap(b)
	copy(b, "direct")
	_, err = f.WriteAt(b, 0)
	must(t, err)
	if got := s3.get(t, "f"); got != string(b) {
		t.Fatalf("others see %d bytes %.10q", len(got), got)
	}
	s3.overwrite(t, "f", 4096, "other")
	_, err = f.ReadAt(b, 0)
	must(t, err)
	if string(b[:6]) != "direct" || string(b[4096:4101]) != "other" {
		t.Fatalf("read %.10q and %.10q", b, b[4096:])
	}
}

// TestReadRangesOverDirty reads every range of a file that is partly committed,
// partly dirty, partly a hole.
func TestReadRangesOverDirty(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0644)
	must(t, err)
	defer f.Close()
	want := make([]byte, 60)
	put := func(off int, s string) {
		_, err := f.WriteAt([]byte(s), int64(off))
		must(t, err)
		copy(want[off:], s)
	}
	put(3, "committed committed")
	must(t, f.Sync())
	put(5, "AA")
	put(10, "BBBB")
	put(40, "CCCCC")
	put(12, "D")
	put(59, "E")
	for from := range want {
		for to := from + 1; to <= len(want); to++ {
			b := make([]byte, to-from)
			if _, err := f.ReadAt(b, int64(from)); err != nil || !bytes.Equal(b, want[from:to]) {
				t.Fatalf("[%d, %d): %q, %v, want %q", from, to, b, err, want[from:to])
			}
		}
	}
}

// TestTimesSurviveFlush: utimensat(2) after a write is the last word.
func TestTimesSurviveFlush(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	for _, want := range []time.Time{time.Unix(1e9, 5), time.Unix(0, 0), time.Unix(-5, 7)} {
		f, err := os.Create(m.path("f"))
		must(t, err)
		_, err = f.WriteString("x")
		must(t, err)
		must(t, os.Chtimes(m.path("f"), want, want))
		must(t, f.Close())
		st, err := os.Stat(m.path("f"))
		must(t, err)
		if !st.ModTime().Equal(want) || s3.find(t, "f").Mtime != twofold.TimeOf(want) {
			t.Fatalf("mtime %v, want %v", st.ModTime(), want)
		}
	}
	f, err := os.OpenFile(m.path("f"), os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("y")
	must(t, err)
	st, err := f.Stat()
	must(t, err)
	if time.Since(st.ModTime()) > time.Minute {
		t.Fatalf("a write left mtime at %v", st.ModTime())
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, m.path("f"), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}}, 0))
}

// TestNewFileIsNotTruncated: open(2) with O_CREAT and O_TRUNC, as creat(2), cp and
// shells have it, is one change of the volume where it makes the file.
func TestNewFileIsNotTruncated(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0644))
	m.awaitNoLease(t)
	for op, want := range map[string]int{"Create": 1, "SetAttr": 0, "Write": 1} {
		if got := m.count(op); got != want {
			t.Errorf("%d calls of %s, want %d", got, op, want)
		}
	}
	must(t, os.WriteFile(m.path("f"), []byte("new"), 0644)) // this one is
	wantFile(t, m.path("f"), "new")
	if got := m.count("SetAttr"); got != 1 {
		t.Errorf("%d calls of SetAttr, want 1", got)
	}
	if t.Failed() {
		t.Log(m.ops)
	}
}
