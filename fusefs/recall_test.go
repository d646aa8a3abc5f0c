package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// TestRecallShowsWhatWasWritten: what write(2) returned for is there for others at
// once, without fsync or close.
func TestRecallShowsWhatWasWritten(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	want := ""
	for i := range 50 {
		line := fmt.Sprintf("line %d\n", i)
		_, err := f.WriteString(line)
		must(t, err)
		want += line
		if got := s3.get(t, "f"); got != want {
			t.Fatalf("after write %d others see %q", i, got)
		}
		if st, err := f.Stat(); err != nil || st.Size() != int64(len(want)) {
			t.Fatalf("stat: %v, %v", st, err)
		}
	}
	// And the other way: what others did is seen by the next read and write.
	s3.overwrite(t, "f", 0, "LINE")
	wantFile(t, m.path("f"), "LINE"+want[4:])
	_, err = f.WriteAt([]byte("0"), 5)
	must(t, err)
	if got := s3.get(t, "f"); got != "LINE"+want[4:] {
		t.Fatalf("others see %q", got)
	}
}

// TestSameTimesDifferentContent: somebody changes bytes in place and sets mtime
// back, as rsync --inplace -t does. The kernel alone would keep its pages.
func TestSameTimesDifferentContent(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	must(t, os.WriteFile(m.path("f"), []byte("old bytes"), 0644))
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	for i := range 20 {
		b := make([]byte, 9)
		_, err := f.ReadAt(b, 0)
		must(t, err)
		want := fmt.Sprintf("new %02d...", i)
		before := s3.find(t, "f")
		s3.overwrite(t, "f", 0, want)
		v.mu.Lock()
		v.inodes[before.Ino].attr.Mtime = before.Mtime
		v.mu.Unlock()
		_, err = f.ReadAt(b, 0)
		must(t, err)
		if string(b) != want {
			t.Fatalf("read %q, want %q", b, want)
		}
	}
}

// TestRecallWhileWriting: each read of others is a prefix of the stream of writes,
// at least up to the last write that had returned.
func TestRecallWhileWriting(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	var written atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			line := fmt.Sprintf("%07d\n", i)
			if _, err := f.WriteString(line); err != nil {
				t.Error(err)
				return
			}
			written.Add(int64(len(line)))
		}
	})
	ctx := context.Background()
	ino := s3.find(t, "f").Ino
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		least := written.Load()
		b := make([]byte, 4<<20)
		n, err := s3.Read(ctx, ino, 0, b)
		must(t, err)
		if int64(n) < least {
			t.Fatalf("others see %d bytes when %d were written", n, least)
		}
		for i := 0; i < n; i += 8 {
			if want := fmt.Sprintf("%07d\n", i/8); string(b[i:i+8]) != want {
				t.Fatalf("at %d others see %q", i, b[i:i+8])
			}
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d writes, %d recalls", written.Load()/8, m.count("ReleaseWrite"))
}

// TestGrantOvertakenByRecall: a recall can arrive before the grant that it is about.
func TestGrantOvertakenByRecall(t *testing.T) {
	for _, late := range []time.Duration{arrival / 5, 3 * arrival} {
		t.Run(late.String(), func(t *testing.T) {
			v := newFakeVolume()
			m, s3 := mountFake(t, v, nil), somebody{v.session()}
			must(t, os.WriteFile(m.path("f"), nil, 0644))
			var first sync.Once
			got := make(chan string, 1)
			m.setHook(func(op string, ino twofold.Ino) error {
				if op == "granted" {
					first.Do(func() {
						go func() { got <- s3.get(t, "f") }()
						time.Sleep(late)
					})
				}
				return nil
			})
			f, err := os.OpenFile(m.path("f"), os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString("hello")
			must(t, err)
			if b := <-got; b != "" && b != "hello" {
				t.Fatalf("others saw %q meanwhile", b)
			}
			if b := s3.get(t, "f"); b != "hello" {
				t.Fatalf("others see %q", b)
			}
			must(t, f.Close())
		})
	}
}

// TestAttributesOvertakenByRecall: attributes that the volume gave before a flush,
// and that arrive when the lease is gone, lack what was written: not to be told.
func TestAttributesOvertakenByRecall(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("written")
	must(t, err)
	var once sync.Once
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "gotattr" {
			once.Do(func() { s3.get(t, "f") })
		}
		return nil
	})
	if st, err := f.Stat(); err != nil || st.Size() != 7 {
		t.Fatalf("%v, %v", st, err)
	}
}

// TestChangeOvertakesRelease: the volume has the lease back, and somebody else has
// changed the file, before the mount knows that its ReleaseWrite was done. A read
// and a stat that begin then are behind that change.
func TestChangeOvertakesRelease(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_CREATE, 0644)
	must(t, err)
	defer f.Close()
	r, err := os.Open(m.path("f"))
	must(t, err)
	defer r.Close()
	_, err = f.WriteString("written")
	must(t, err)
	type seen struct {
		text string
		size int64
	}
	got := make(chan seen, 1)
	var once sync.Once
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "released" {
			once.Do(func() {
				s3.overwrite(t, "f", 7, ", and more")
				var s seen
				b := make([]byte, 100)
				if st, err := r.Stat(); err == nil {
					s.size = st.Size()
				}
				n, _ := r.ReadAt(b, 0)
				s.text = string(b[:n])
				got <- s
			})
		}
		return nil
	})
	s3.get(t, "f")
	want := seen{"written, and more", 17}
	if s := <-got; s != want {
		t.Fatalf("got %+v, want %+v", s, want)
	}
}

// TestReadOvertakenByFlush: a read that has taken dirty bytes must not put them
// beside newer ones that were committed before it asked the volume for the rest.
func TestReadOvertakenByFlush(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	must(t, os.WriteFile(m.path("f"), []byte("aaaabbbb"), 0644))
	f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("XXXX"), 0)
	must(t, err)
	n := m.s.f.ref(m.holder.Held().Writes[0].Ino)
	defer m.s.f.unref(n)
	var once sync.Once
	ctx := context.Background()
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Read" {
			once.Do(func() {
				n.write(ctx, change{data: [][]byte{[]byte("YYYYYYYY")}})
				n.mu.Lock()
				defer n.mu.Unlock()
				n.settle(ctx, n.wseq)
			})
		}
		return nil
	})
	p := make([]byte, 8)
	k, err := n.read(ctx, 0, p, false, nil)
	if err != nil || string(p[:k]) != "YYYYYYYY" {
		t.Fatalf("read %q, %v", p[:k], err)
	}
}

// TestTwoMountsAppend: concurrent O_APPEND through two mounts and several
// descriptors of each loses and tears nothing.
func TestTwoMountsAppend(t *testing.T) {
	v := newFakeVolume()
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	must(t, os.WriteFile(a.path("log"), nil, 0644))
	const lines = 100
	var wg sync.WaitGroup
	for i, m := range []*testMount{a, a, b, b} {
		wg.Go(func() {
			f, err := os.OpenFile(m.path("log"), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for k := range lines {
				if _, err := fmt.Fprintf(f, "%d %d\n", i, k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, m := range []*testMount{a, b} {
		text, err := os.ReadFile(m.path("log"))
		must(t, err)
		next := make(map[string]int)
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var k int
			who, _, _ := strings.Cut(line, " ")
			if _, err := fmt.Sscanf(line, who+" %d", &k); err != nil || k != next[who] {
				t.Fatalf("line %q where %s %d was due", line, who, next[who])
			}
			next[who]++
		}
		for i := range 4 {
			if next[fmt.Sprint(i)] != lines {
				t.Fatalf("%d has %d lines of %d", i, next[fmt.Sprint(i)], lines)
			}
		}
	}
}

// TestTwoMountsCounter: read-modify-write under a lock of the test's, from two
// mounts in turn. Every state must be seen by the other mount at once.
func TestTwoMountsCounter(t *testing.T) {
	v := newFakeVolume()
	ms := []*testMount{mountFake(t, v, nil), mountFake(t, v, nil)}
	must(t, os.WriteFile(ms[0].path("n"), []byte("00000"), 0644))
	var fs []*os.File
	for _, m := range ms {
		f, err := os.OpenFile(m.path("n"), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		fs = append(fs, f)
	}
	for i := range 200 {
		f := fs[i%2]
		b := make([]byte, 5)
		_, err := f.ReadAt(b, 0)
		must(t, err)
		if want := fmt.Sprintf("%05d", i); string(b) != want {
			t.Fatalf("read %q, want %q", b, want)
		}
		_, err = f.WriteAt(fmt.Appendf(nil, "%05d", i+1), 0)
		must(t, err)
	}
}

// TestRecallNeedsNoRequest: a recall ends while another request of the mount hangs.
func TestRecallNeedsNoRequest(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("written")
	must(t, err)
	hang := make(chan struct{})
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "GetXattr" {
			<-hang
		}
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		syscall.Getxattr(m.path("f"), "user.x", make([]byte, 10))
	}()
	time.Sleep(20 * time.Millisecond)
	if got := s3.get(t, "f"); got != "written" {
		t.Fatalf("others see %q", got)
	}
	close(hang)
	<-done
	must(t, f.Close())
}

// TestRecallDuringTruncate: whatever happens in between, others see the content
// before or after a truncate, with all writes that came first.
func TestRecallDuringTruncate(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountFake(t, v, nil), somebody{v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			got := s3.get(t, "f")
			if len(got) > 3000 || strings.Trim(got, "x") != "" {
				t.Errorf("others see %d bytes %.20q", len(got), got)
				return
			}
		}
	})
	x := bytes.Repeat([]byte("x"), 3000)
	for range 200 {
		_, err := f.WriteAt(x, 0)
		must(t, err)
		must(t, f.Truncate(1000))
		if st, err := f.Stat(); err != nil || st.Size() != 1000 {
			t.Fatalf("size %v, %v", st.Size(), err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestHeldAndLost(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("soon lost")
	must(t, err)
	held := m.holder.Held()
	if len(held.Writes) != 1 || len(held.Opens) != 1 || held.Opens[0].Count != 1 {
		t.Fatalf("held: %+v", held)
	}
	v.mu.Lock() // the session ends
	in := v.inodes[held.Writes[0].Ino]
	in.holder, in.pins = nil, map[*fakeSession]int{}
	v.mu.Unlock()
	m.holder.Lost(errs.E("test", errs.Fenced, nil))
	wantErrno(t, f.Sync(), syscall.EIO)
	must(t, f.Sync()) // told once
	_, err = f.WriteAt([]byte("again"), 0)
	must(t, err)
	must(t, f.Close())
	wantFile(t, m.path("f"), "again")
}

// TestRecallOfUnknown: leases that the mount does not have are no matter.
func TestRecallOfUnknown(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	must(t, m.holder.Recall(context.Background(), 4711, 1))
	must(t, os.WriteFile(m.path("f"), []byte("x"), 0644))
	must(t, m.holder.Recall(context.Background(), somebody{m.fakeSession}.find(t, "f").Ino, 999))
}

func TestRecallGivesUpWithItsContext(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	_, err = f.WriteString("x")
	must(t, err)
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Write" {
			return errs.E("test", errs.Unavailable, nil)
		}
		return nil
	})
	w := m.holder.Held().Writes[0]
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if err := m.holder.Recall(ctx, w.Ino, w.Token); err == nil {
		t.Fatal("a recall that could not flush says that it did")
	}
	m.setHook(nil)
	must(t, m.holder.Recall(context.Background(), w.Ino, w.Token))
	if got := (somebody{v.session()}).get(t, "f"); got != "x" {
		t.Fatalf("others see %q", got)
	}
	must(t, f.Close())
}
