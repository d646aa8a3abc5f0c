package fusefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"twofold"
)

const page = 4096

// mountPaged is mountFake where files of any size are read through the kernel's pages.
func mountPaged(t *testing.T, v *fakeVolume, change func(*Options)) *testMount {
	t.Helper()
	m := mountFake(t, v, func(o *Options) {
		o.Pages, o.leastPaged = true, 1
		if change != nil {
			change(o)
		}
	})
	if !m.s.f.direct {
		t.Skip("this kernel reads all files through its pages (Linux 6.6 need not)")
	}
	return m
}

// paged reports how many open files of a name are read through pages.
func (m *testMount) paged(ino twofold.Ino) int {
	n := m.s.f.known(ino)
	if n == nil {
		return 0
	}
	defer m.s.f.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.paging.files
}

// openPaged opens a file that has to be one that is read through pages.
func (m *testMount) openPaged(t *testing.T, name string, ino twofold.Ino) *os.File {
	t.Helper()
	before := m.paged(ino)
	f, err := os.Open(m.path(name))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	if m.paged(ino) != before+1 {
		t.Fatalf("%s is not read through pages", name)
	}
	return f
}

// stamped are pages that all tell the same number.
func stamped(pages int, k uint64) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, k), pages*page/8)
}

// stamp is the number of a content, which has to be as long as it was written.
func stamp(b []byte, pages int) (uint64, error) {
	if len(b) != pages*page {
		return 0, fmt.Errorf("%d bytes", len(b))
	}
	k := binary.LittleEndian.Uint64(b)
	for i := 8; i < len(b); i += 8 {
		if other := binary.LittleEndian.Uint64(b[i:]); other != k {
			return 0, fmt.Errorf("%d in front, %d at %d", k, other, i)
		}
	}
	return k, nil
}

// TestPagesAreKept: what was read once is not asked for again, also when the file was
// closed in between and the kernel's timeouts are over.
func TestPagesAreKept(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountPaged(t, v, nil), somebody{v.session()}
	content := string(stamped(300, 7))
	ino := s3.put(t, "f", content)
	read := func(f *os.File) {
		t.Helper()
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		if err != nil || string(b) != content {
			t.Fatal(len(b), err)
		}
	}
	// kept reads by one open file, then by another one. The kernel may drop pages at any
	// time, to have memory: then it is tried again.
	kept := func(what string, one func() *os.File, pause time.Duration, other func() *os.File) {
		t.Helper()
		for range 10 {
			f := one()
			read(f)
			time.Sleep(pause)
			var has unix.Cachestat_t
			must(t, unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &has, 0))
			reads := m.count("Read")
			if read(other()); m.count("Read") == reads {
				return
			}
			if has.Cache*uint64(os.Getpagesize()) >= uint64(len(content)) {
				t.Errorf("%s: %d reads of what the kernel had", what, m.count("Read")-reads)
				return
			}
		}
		t.Logf("%s: the kernel has kept nothing for long enough", what)
	}
	f := m.openPaged(t, "f", ino)
	same := func() *os.File { return f }
	kept("again", same, 0, same)
	kept("behind the timeout of attributes, which the kernel asks for", same, maxTimeout+2*kernelSlack, same)
	kept("by another open file", same, 0, func() *os.File { return m.openPaged(t, "f", ino) })
	open := m.paged(ino)
	f.Close()
	eventually(t, "closed", func() bool { return m.paged(ino) < open })
	f = m.openPaged(t, "f", ino)
	kept("by one that is opened later", same, 0, func() *os.File { return m.openPaged(t, "f", ino) })
}

// TestPagedOpens: which files are read through pages.
func TestPagedOpens(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountPaged(t, v, func(o *Options) { o.leastPaged = 2 * page }), somebody{v.session()}
	small, large := s3.put(t, "small", "x"), s3.put(t, "large", string(stamped(2, 1)))
	want := func(name string, ino twofold.Ino, flags, want int) {
		t.Helper()
		f, err := os.OpenFile(m.path(name), flags, 0)
		must(t, err)
		defer f.Close()
		if n := m.paged(ino); n != want {
			t.Fatalf("%s, flags %#x: %d open files are read through pages, want %d", name, flags, n, want)
		}
	}
	want("small", small, os.O_RDONLY, 0)
	want("large", large, os.O_RDONLY, 1)
	eventually(t, "closed", func() bool { return m.paged(large) == 0 })
	want("large", large, os.O_RDWR, 0)
	want("large", large, os.O_RDONLY|unix.O_DIRECT, 0)
	w, err := os.OpenFile(m.path("large"), os.O_WRONLY, 0)
	must(t, err)
	want("large", large, os.O_RDONLY, 0)
	w.Close()
	eventually(t, "the writer is gone", func() bool {
		n := m.s.f.known(large)
		defer m.s.f.unref(n)
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.writers == 0 && n.lease == leaseNone
	})
	want("large", large, os.O_RDONLY, 1)
	eventually(t, "closed", func() bool { return m.paged(large) == 0 })
	f := m.openPaged(t, "large", large)
	s3.overwrite(t, "large", 0, "changed")
	want("large", large, os.O_RDONLY, 1) // only f
	f.Close()
}

// TestPagesFollow: whatever changes a file that is open and read through pages, the next
// read(2) shows it, with its new size.
func TestPagesFollow(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, m, other *testMount, s3 somebody, content string) string
	}{
		{"S3", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			s3.overwrite(t, "f", 5000, "s3")
			return content[:5000] + "s3" + content[5002:]
		}},
		{"grown by S3", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			s3.overwrite(t, "f", int64(len(content)), "grown")
			return content + "grown"
		}},
		{"another mount", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			w, err := os.OpenFile(other.path("f"), os.O_WRONLY, 0)
			must(t, err)
			defer w.Close()
			_, err = w.WriteAt([]byte("other"), 9000)
			must(t, err)
			return content[:9000] + "other" + content[9005:]
		}},
		{"cut by another mount", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			must(t, os.Truncate(other.path("f"), 6000))
			return content[:6000]
		}},
		{"the same mount", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			w, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			defer w.Close()
			_, err = w.WriteAt([]byte("same"), 7000)
			must(t, err)
			return content[:7000] + "same" + content[7004:]
		}},
		{"appended by the same mount", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			w, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			defer w.Close()
			_, err = w.WriteString("appended")
			must(t, err)
			return content + "appended"
		}},
		{"cut by the same mount", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			must(t, os.Truncate(m.path("f"), 5555))
			return content[:5555]
		}},
		{"a hole", func(t *testing.T, m, other *testMount, s3 somebody, content string) string {
			w, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			must(t, err)
			defer w.Close()
			must(t, unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 100, 8000))
			return content[:100] + strings.Repeat("\x00", 8000) + content[8100:]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newFakeVolume()
			m, other, s3 := mountPaged(t, v, nil), mountFake(t, v, nil), somebody{v.session()}
			content := strings.Repeat("0123456789", 1500)
			ino := s3.put(t, "f", content)
			f := m.openPaged(t, "f", ino)
			read := func() string {
				b := make([]byte, 64<<10)
				n, err := f.ReadAt(b, 0)
				if err != io.EOF {
					t.Fatal(n, err)
				}
				return string(b[:n])
			}
			for range 2 {
				if read() != content {
					t.Fatal("wrong from the start")
				}
				content = c.do(t, m, other, s3, content)
				if got := read(); got != content {
					t.Fatalf("%d bytes, %d wanted, or others", len(got), len(content))
				}
				if m.paged(ino) != 1 {
					t.Fatal("it is not read through pages any more")
				}
			}
		})
	}
}

// TestPagesWithoutALease: a mount that is cut off, or stopped, leaves the kernel with pages.
// When the time of its attributes is over, the kernel does not read them without asking.
func TestPagesWithoutALease(t *testing.T) {
	v := newFakeVolume()
	m, s3 := mountPaged(t, v, nil), somebody{v.session()}
	ino := s3.put(t, "f", string(stamped(8, 1)))
	end := time.Now().Add(2 * time.Second)
	m.cutOff(end)
	f := m.openPaged(t, "f", ino)
	read := func() uint64 {
		b := make([]byte, 8*page)
		_, err := f.ReadAt(b, 0)
		must(t, err)
		k, err := stamp(b, 8)
		must(t, err)
		return k
	}
	for range 3 {
		if k := read(); k != 1 {
			t.Fatal(k)
		}
	}
	time.Sleep(time.Until(end) + kernelSlack)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "GetAttr" {
			once.Do(func() { close(asked) })
			<-answer
		}
		return nil
	})
	got := make(chan uint64)
	go func() { got <- read() }()
	select {
	case <-asked:
	case k := <-got:
		t.Fatal("nobody was asked, and there was", k)
	}
	v.mu.Lock()
	clear(v.inodes[ino].readers) // as the server does after the lease
	v.mu.Unlock()
	s3.overwrite(t, "f", 0, string(stamped(8, 2)))
	close(answer)
	if k := <-got; k != 2 {
		t.Fatal("an old page:", k)
	}
}

// slowBuffer is memory whose second half takes until goOn is closed to be there: pages of a
// file of a mount that does not answer. reached is closed when somebody waits for that.
func slowBuffer(t *testing.T, size int) (b []byte, reached <-chan struct{}, goOn func()) {
	t.Helper()
	m := mountFake(t, newFakeVolume(), nil)
	must(t, os.WriteFile(m.path("memory"), make([]byte, size), 0644))
	m.awaitNoLease(t)
	file, err := os.Open(m.path("memory"))
	must(t, err)
	defer file.Close()
	at, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(t, err)
	t.Cleanup(func() { unix.MunmapPtr(at, uintptr(size)) })
	_, err = unix.MmapPtr(int(file.Fd()), 0, unsafe.Add(at, size/2), uintptr(size/2), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
	must(t, err)
	wait, over := make(chan struct{}), make(chan struct{})
	var once, end sync.Once
	goOn = func() { end.Do(func() { close(over) }) }
	t.Cleanup(goOn)
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Read" {
			once.Do(func() { close(wait) })
			<-over
		}
		return nil
	})
	return unsafe.Slice((*byte)(at), size), wait, goOn
}

// TestReadOfPagesIsOneOperation: a read(2) that has copied some pages, and then does not get
// on, holds a change up; what it shows is all of before it.
func TestReadOfPagesIsOneOperation(t *testing.T) {
	const pages = 64
	write := func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(stamped(pages, 2), 0)
		return err
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, m, other *testMount, s3 somebody) error
	}{
		{"S3", func(t *testing.T, _, _ *testMount, s3 somebody) error {
			s3.overwrite(t, "f", 0, string(stamped(pages, 2)))
			return nil
		}},
		{"the same mount", func(_ *testing.T, m, _ *testMount, _ somebody) error { return write(m.path("f")) }},
		{"another mount", func(_ *testing.T, _, other *testMount, _ somebody) error { return write(other.path("f")) }},
		{"cut", func(_ *testing.T, m, _ *testMount, _ somebody) error { return os.Truncate(m.path("f"), page) }},
		{"a hole", func(_ *testing.T, m, _ *testMount, _ somebody) error {
			f, err := os.OpenFile(m.path("f"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, pages*page)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newFakeVolume()
			m := mountPaged(t, v, func(o *Options) { o.readTime = 20 * time.Second })
			other, s3 := mountFake(t, v, nil), somebody{v.session()}
			ino := s3.put(t, "f", string(stamped(pages, 1)))
			f := m.openPaged(t, "f", ino)
			_, err := io.Copy(io.Discard, f)
			must(t, err)
			b, reached, goOn := slowBuffer(t, pages*page)
			read := make(chan error, 1)
			go func() {
				n, err := unix.Pread(int(f.Fd()), b, 0)
				if err == nil && n != len(b) {
					err = fmt.Errorf("%d bytes", n)
				}
				read <- err
			}()
			<-reached
			changed := make(chan error, 1)
			go func() { changed <- c.change(t, m, other, s3) }()
			eventually(t, "the change waits, or is over", func() bool {
				n := m.s.f.known(ino)
				defer m.s.f.unref(n)
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.paging.gates > 0 || len(changed) > 0
			})
			goOn()
			must(t, <-read)
			if k, err := stamp(b, pages); err != nil || k != 1 {
				t.Error("the read shows", k, err)
			}
			f.Close() // says that it is over
			must(t, <-changed)
		})
	}
}

// TestPagesUnderStress: several mounts change a file, page by page in one write(2), longer and
// shorter, while others read it: each read shows one state of the file, none of before the
// last change that was over when it began, nor of behind what had begun when it ended.
func TestPagesUnderStress(t *testing.T) {
	const most = 32 // pages
	type state struct {
		stamp uint64
		pages int
	}
	v := newFakeVolume()
	m, other, writer := mountPaged(t, v, nil), mountPaged(t, v, nil), mountFake(t, v, nil)
	ino := somebody{v.session()}.put(t, "f", string(stamped(most/2, 0)))
	files := []*os.File{m.openPaged(t, "f", ino), m.openPaged(t, "f", ino), other.openPaged(t, "f", ino)}
	states := make([]state, 1, 100)
	states[0] = state{0, most / 2}
	var begun, done atomic.Int64 // numbers of states
	var stop atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for i, f := range files {
		wg.Go(func() {
			b := make([]byte, most*page+1)
			for !stop.Load() {
				from := done.Load()
				n, err := unix.Pread(int(f.Fd()), b, 0) // ReadAt would be two at the file's end
				if err != nil {
					t.Error(n, err)
					return
				}
				to := begun.Load()
				k, err := stamp(b[:n], n/page)
				if err != nil || !slices.Contains(states[from:to+1], state{k, n / page}) {
					t.Errorf("reader %d: %d pages of %d, %v; it was one of %v", i, n/page, k, err, states[from:to+1])
					return
				}
				reads.Add(1)
			}
		})
	}
	for k := int64(1); k < 16 && !t.Failed(); k++ {
		path, last := []*testMount{m, other, writer}[k%3].path("f"), states[k-1]
		to := state{uint64(k), min(most, last.pages+int(k%5))}
		if k%4 == 3 {
			to = state{last.stamp, last.pages/2 + 1}
		}
		states = append(states, to) // in place
		begun.Store(k)
		if k%4 == 3 {
			must(t, os.Truncate(path, int64(to.pages)*page))
		} else {
			w, err := os.OpenFile(path, os.O_WRONLY, 0)
			must(t, err)
			_, err = w.WriteAt(stamped(to.pages, to.stamp), 0)
			must(t, err)
			must(t, w.Close())
		}
		done.Store(k)
		seen := reads.Load()
		eventually(t, "they read", func() bool { return t.Failed() || reads.Load() > seen+3 })
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d reads", reads.Load())
}
