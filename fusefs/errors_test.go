package fusefs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/internal/errs"
)

// failWrites makes flushes fail with what kind has.
func (m *testMount) failWrites(kind *atomic.Int32) {
	m.setHook(func(op string, _ twofold.Ino) error {
		if k := kind.Load(); op == "Write" && k >= 0 {
			return errs.E("test", errs.Kind(k), nil)
		}
		return nil
	})
}

// TestFlushErrorsAreTold: each handle that was open hears of lost bytes once, at
// fsync or close.
func TestFlushErrorsAreTold(t *testing.T) {
	for _, c := range []struct {
		kind errs.Kind
		want syscall.Errno
	}{
		{errs.NoSpace, syscall.ENOSPC},
		{errs.Quota, syscall.EDQUOT},
		{errs.WriteQuorum, syscall.EIO},
		{errs.Corrupt, syscall.EIO},
		{errs.Other, syscall.EIO},
		{errs.Fenced, syscall.EIO},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			v := newFakeVolume()
			m := mountFake(t, v, nil)
			must(t, os.WriteFile(m.path("f"), []byte("committed"), 0644))
			m.awaitNoLease(t) // or giving it back flushes what is written next
			var kind atomic.Int32
			kind.Store(int32(c.kind))
			m.failWrites(&kind)
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			g, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteString("LOST bytes")
			must(t, err)
			wantFile(t, m.path("f"), "LOST bytes")
			wantErrno(t, f.Sync(), c.want)
			must(t, f.Sync())
			wantErrno(t, g.Close(), c.want) // close of another handle
			wantFile(t, m.path("f"), "committed")
			_, err = f.WriteAt([]byte("lost"), 0)
			must(t, err)
			wantErrno(t, f.Close(), c.want)
			kind.Store(-1)
			f, err = os.OpenFile(m.path("f"), os.O_RDWR, 0) // opened later: no error
			must(t, err)
			_, err = f.WriteAt([]byte("COM"), 0)
			must(t, err)
			must(t, f.Close())
			wantFile(t, m.path("f"), "COMmitted")
		})
	}
}

// TestNoSpaceIsTriedAgain: as long as nobody asks for the outcome, bytes are not
// given up, new writes fail, and when there is space again all is well.
func TestNoSpaceIsTriedAgain(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, func(o *Options) { o.FlushAge = 20 * time.Millisecond })
	var kind atomic.Int32
	kind.Store(int32(errs.NoSpace))
	m.failWrites(&kind)
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("kept")
	must(t, err)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := f.WriteAt([]byte("k"), 0)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		must(t, err)
		if time.Now().After(end) {
			t.Fatal("writes go on without space")
		}
	}
	kind.Store(-1)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := f.WriteAt([]byte("K"), 0); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("writes fail though there is space again")
		}
	}
	must(t, f.Sync())
	must(t, f.Close())
	wantFile(t, m.path("f"), "Kept")
}

// TestRecallThatCantFlushIsRefused: while what a mount holds can't be written, others
// are refused instead of shown the content without it, and nothing is lost.
func TestRecallThatCantFlushIsRefused(t *testing.T) {
	for _, k := range []errs.Kind{errs.NoSpace, errs.WriteQuorum} {
		t.Run(k.String(), func(t *testing.T) {
			v := newFakeVolume()
			m, b, s3 := mountFake(t, v, nil), mountFake(t, v, nil), somebody{v.session()}
			must(t, os.WriteFile(m.path("f"), []byte("committed"), 0644))
			ino := s3.find(t, "f").Ino
			var kind atomic.Int32
			kind.Store(int32(k))
			m.failWrites(&kind)
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("WRITTEN"), 0)
			must(t, err)
			ctx := context.Background()
			for range 2 {
				if _, err := s3.GetAttr(ctx, ino); !errs.Is(err, errs.Unwritten) {
					t.Fatalf("somebody else looks: %v", err)
				}
				if _, err := s3.Read(ctx, ino, 0, make([]byte, 9)); !errs.Is(err, errs.Unwritten) {
					t.Fatalf("somebody else reads: %v", err)
				}
				_, err = os.ReadFile(b.path("f"))
				wantErrno(t, err, syscall.EIO)
				wantFile(t, m.path("f"), "WRITTENed")
			}
			kind.Store(-1)
			if got := s3.get(t, "f"); got != "WRITTENed" {
				t.Fatalf("others see %q when there is space again", got)
			}
			wantFile(t, b.path("f"), "WRITTENed")
			must(t, f.Sync())
			must(t, f.Close())
		})
	}
}

// TestUnavailableIsWaitedFor: while the store restarts, everything waits.
func TestUnavailableIsWaitedFor(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	var left atomic.Int32
	for _, kind := range []errs.Kind{errs.Unavailable, errs.UnknownOutcome} {
		left.Store(3)
		m.setHook(func(op string, _ twofold.Ino) error {
			if (op == "Write" || kind == errs.Unavailable) && left.Add(-1) >= 0 {
				return errs.E("test", kind, nil)
			}
			return nil
		})
		_, err = f.WriteString("y")
		must(t, err)
		must(t, f.Sync())
		wantFile(t, m.path("f"), map[errs.Kind]string{errs.Unavailable: "xy", errs.UnknownOutcome: "xyy"}[kind])
	}
	must(t, f.Close())
}

func TestLeaseIsRefused(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("f"), []byte("content"), 0644))
	m.awaitNoLease(t)
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "AcquireWrite" {
			return errs.E("test", errs.ReadOnly, nil)
		}
		return nil
	})
	f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 7)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "content" {
		t.Fatalf("read %q, %v", b, err)
	}
	_, err = f.WriteString("x")
	wantErrno(t, err, syscall.EROFS)
	must(t, f.Close())
}

// TestErrnos: no kind of error may come out as success or as something undefined.
func TestErrnos(t *testing.T) {
	if errno(nil) != 0 {
		t.Fatal("no error is an error")
	}
	for k := errs.Kind(0); k < 60; k++ {
		st := errno(errs.E("test", k, nil))
		if st <= 0 {
			t.Errorf("%v is %v", k, st)
		}
	}
	for k, want := range map[errs.Kind]syscall.Errno{
		errs.NotFound: syscall.ENOENT, errs.Stale: syscall.ESTALE, errs.CrossBucket: syscall.EXDEV,
		errs.Canceled: syscall.EINTR, errs.Fenced: syscall.EIO, errs.Unavailable: syscall.EIO,
	} {
		if st := errno(errs.E("test", k, nil)); st != fuse.Status(want) {
			t.Errorf("%v is %v, want %v", k, st, want)
		}
	}
}

// TestInterrupt: a write that waits for a lease goes on after a signal that its process
// handles, as no write(2) to a file says EINTR elsewhere (signal(7)), and ends when the
// process is killed.
func TestInterrupt(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%t", kill), func(t *testing.T) {
			v := newFakeVolume()
			m := mountFake(t, v, nil)
			must(t, os.WriteFile(m.path("f"), nil, 0644))
			asked, hang := make(chan struct{}), make(chan struct{})
			var once, release sync.Once
			m.setHook(func(op string, _ twofold.Ino) error {
				if op == "AcquireWrite" {
					once.Do(func() { close(asked) })
					<-hang
				}
				return nil
			})
			defer release.Do(func() { close(hang) })
			k := startTalk(t, "signal", m.path("f"))
			tid, err := k.out.ReadString('\n')
			must(t, err)
			<-asked
			must(t, syscall.Tgkill(k.cmd.Process.Pid, atoi(tid), syscall.SIGUSR1))
			time.Sleep(2 * graceWait) // long enough to have been answered EINTR
			if kill {
				must(t, k.cmd.Process.Kill())
				if got, err := k.out.ReadString('\n'); err == nil { // it ends, with its last thread
					t.Fatalf("the write ended with %q", got)
				}
				return
			}
			release.Do(func() { close(hang) })
			got, err := k.out.ReadString('\n')
			must(t, err)
			if got != "<nil>\n" {
				t.Fatalf("the write ended with %q", got)
			}
		})
	}
}
