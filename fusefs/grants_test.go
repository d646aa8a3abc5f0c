package fusefs

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// notices counts what the kernel is told.
type notices struct {
	attrs  int
	answer fuse.Status
	during func()
}

func (k *notices) InodeNotify(uint64, int64, int64) fuse.Status {
	k.attrs++
	if k.during != nil {
		k.during()
	}
	return k.answer
}

func (k *notices) InodeNotifyStoreCache(uint64, int64, []byte) fuse.Status { return fuse.OK }

func (k *notices) EntryNotify(uint64, string) fuse.Status { return fuse.OK }

// TestKernelIsToldOnce: what the kernel has forgotten it is not told again, as that would
// overtake its next GETATTR, whose size it then drops. What it was given since it is told.
func TestKernelIsToldOnce(t *testing.T) {
	k := &notices{}
	f := newFsys(Options{Log: slog.New(slog.DiscardHandler), CachedUntil: func() time.Time { return time.Now().Add(time.Hour) }}, nil)
	t.Cleanup(f.stop)
	f.kernel = k
	const ino = twofold.Ino(100)
	give := func() {
		t.Helper()
		m := f.cache.now()
		a := api.Attr{Ino: ino, Type: metadata.TypeFile, Leased: true}
		f.cache.putAttr(a, m)
		if f.cache.grantAttr(a, m) == 0 {
			t.Fatal("the kernel is given nothing")
		}
		f.cache.mu.Lock()
		f.cache.inodes[ino].kernel = time.Now().Add(time.Hour) // however slow the test is
		f.cache.mu.Unlock()
	}
	take := func() int {
		t.Helper()
		k.attrs = 0
		must(t, holder{f}.Invalidate(context.Background(), []api.Stale{{Ino: ino}}))
		return k.attrs
	}
	give()
	if n := take(); n != 1 {
		t.Fatalf("told %d times of attributes it has", n)
	}
	if n := take(); n != 0 {
		t.Fatalf("told %d times of attributes it has forgotten", n)
	}
	give()
	k.during = give // with the answer to a request behind the notification
	if n := take(); n != 1 {
		t.Fatalf("told %d times of attributes it has again", n)
	}
	k.during = nil
	if n := take(); n != 1 {
		t.Fatalf("told %d times of attributes it was given meanwhile", n)
	}
}
