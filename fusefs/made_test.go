package fusefs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

// TestCreateBringsAttributes: the kernel does not ask for those of a file that it has just made
// before it sends the first write(2).
func TestCreateBringsAttributes(t *testing.T) {
	reqs := &requests{n: make(map[string]int)}
	m := mountFake(t, tokensAbove(), func(o *Options) { o.WriteBehind, o.requests = true, reqs })
	warmBehind(t, m, "d")
	const files = 100
	round, asked := 0, 0
	eventually(t, "attributes only of the directory", func() bool { // the kernel keeps them for 10 ms only
		round++
		before := reqs.now()["GETATTR"]
		for i := range files {
			must(t, os.WriteFile(m.path(fmt.Sprintf("d/f%d-%d", round, i)), []byte("new"), 0644)) // O_WRONLY
		}
		asked = reqs.now()["GETATTR"] - before
		return asked <= files+files/4
	})
	t.Logf("%d GETATTR for %d files in round %d", asked, files, round)
}

// TestMadeFileIsChangedElsewhere: what others change of a file shows at once, also where the
// kernel keeps what it was told when it made it.
func TestMadeFileIsChangedElsewhere(t *testing.T) {
	ctx := context.Background()
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	for i := range 12 {
		name := fmt.Sprintf("f%d", i)
		f, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0644)
		must(t, err)
		if i%6 > 0 {
			_, err = f.WriteString("x") // else nothing tells that the kernel has the answer
			must(t, err)
		}
		a, err := s3.Lookup(ctx, twofold.RootIno, name)
		must(t, err)
		mode := uint32(0600)
		_, err = s3.SetAttr(ctx, a.Ino, api.SetAttr{Mode: &mode})
		must(t, err)
		st, err := f.Stat()
		must(t, err)
		if st.Mode().Perm() != 0600 {
			t.Errorf("%s: %v after somebody else's chmod", name, st.Mode())
		}
		must(t, f.Close())
	}
}

// lateKernel is one that has an answer to CREATE still before it.
type lateKernel struct {
	notifier
	has  atomic.Bool
	told chan bool // of InodeNotify: whether it had the answer by then
}

func (k *lateKernel) InodeNotify(uint64, int64, int64) fuse.Status {
	k.told <- k.has.Load()
	return fuse.OK
}

// TestInvalidateAwaitsCreate: the kernel takes the attributes that CREATE answers with also
// behind a notification: that is sent when the first request for the file has come.
func TestInvalidateAwaitsCreate(t *testing.T) {
	v := newFakeVolume()
	s := v.session()
	s.caches = true
	f := newFsys(Options{CachedUntil: s.cachedUntil, Log: slog.New(slog.DiscardHandler), FlushAge: time.Hour}, s)
	defer f.stop()
	k := &lateKernel{told: make(chan bool, 8)}
	f.kernel = k
	f.cache.max.arrival = time.Minute
	m := f.cache.now()
	a, _, err := f.files.Create(context.Background(), twofold.RootIno, "f", api.Create{Type: metadata.TypeFile, Mode: 0644})
	must(t, err)
	n := f.ref(a.Ino)
	defer f.unref(n)
	file := newFile(n, uint32(os.O_WRONLY))
	fh := f.handles.addFile(file)
	var out fuse.EntryOut
	f.letKeep(fh, a, m, &out)
	if out.AttrTimeout() != madeTimeout {
		t.Fatalf("the kernel may keep attributes for %v", out.AttrTimeout())
	}
	done := make(chan error, 1)
	go func() { done <- holder{f}.Invalidate(context.Background(), []api.Stale{{Ino: a.Ino}}) }()
	eventually(t, "somebody waits for the answer", func() bool {
		f.cache.mu.Lock()
		defer f.cache.mu.Unlock()
		in := f.cache.inodes[a.Ino]
		return in.arrival != nil || len(k.told) > 0
	})
	k.has.Store(true)
	f.handles.file(fh) // a request
	must(t, <-done)
	if !<-k.told {
		t.Error("the kernel was told before it had the answer")
	}
}
