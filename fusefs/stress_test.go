package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"twofold"
)

// TestRandomFile does random operations on one file through two handles of each of
// two mounts, with somebody else reading in between, and compares with an array.
func TestRandomFile(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	v := newFakeVolume()
	a, b := mountFake(t, v, func(o *Options) { o.FlushAge = 5 * time.Millisecond }), mountFake(t, v, nil)
	s3 := somebody{v.session()}
	must(t, os.WriteFile(a.path("f"), nil, 0644))
	var fs []*os.File
	for _, m := range []*testMount{a, a, b, b} {
		f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		fs = append(fs, f)
	}
	const most = 40000
	var want []byte
	for i := range 1500 {
		f := fs[r.IntN(len(fs))]
		off, n := r.IntN(most), 1+r.IntN(9000)
		switch r.IntN(8) {
		case 0:
			must(t, f.Truncate(int64(off)))
			want = append(want[:min(off, len(want))], make([]byte, max(0, off-len(want)))...)
		case 1:
			must(t, f.Sync())
		case 2:
			if got := s3.get(t, "f"); got != string(want) {
				t.Fatalf("step %d: others see %d bytes, want %d", i, len(got), len(want))
			}
		case 3, 4, 5:
			p := bytes.Repeat([]byte{byte(i)}, n)
			_, err := f.WriteAt(p, int64(off))
			must(t, err)
			want = append(want, make([]byte, max(0, off+n-len(want)))...)
			copy(want[off:], p)
		case 6:
			st, err := f.Stat()
			if err != nil || st.Size() != int64(len(want)) {
				t.Fatalf("step %d: size %d, %v, want %d", i, st.Size(), err, len(want))
			}
		default:
			p := make([]byte, n)
			k, err := f.ReadAt(p, int64(off))
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			part := want[min(off, len(want)):min(off+n, len(want))]
			if !bytes.Equal(p[:k], part) {
				t.Fatalf("step %d: [%d, %d) differs: %d bytes, want %d", i, off, off+n, k, len(part))
			}
		}
	}
}

// TestStress has many goroutines make, write, rename, read and remove files in two
// mounts while others read them; each file's content is its first line repeated.
func TestStress(t *testing.T) {
	v := newFakeVolume()
	v.grace = time.Second
	ms := []*testMount{mountFake(t, v, func(o *Options) { o.FlushAge = time.Millisecond }), mountFake(t, v, func(o *Options) { o.MaxDirty = 1 << 20 })}
	stop := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			m, r := ms[i%2], rand.New(rand.NewPCG(uint64(i), 1))
			for n := 0; time.Now().Before(stop); n++ {
				tmp, name := m.path(fmt.Sprintf("tmp%d", i)), m.path(fmt.Sprintf("f%d", r.IntN(4)))
				line := fmt.Sprintf("%d-%d\n", i, n)
				if err := os.WriteFile(tmp, bytes.Repeat([]byte(line), 1+r.IntN(20000)), 0644); err != nil {
					t.Error(err)
				}
				if err := os.Rename(tmp, name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			for n := 0; time.Now().Before(stop); n++ {
				b, err := os.ReadFile(ms[i].path(fmt.Sprintf("f%d", n%4)))
				if os.IsNotExist(err) {
					continue
				}
				line, _, _ := bytes.Cut(b, []byte("\n"))
				if err != nil || len(b) == 0 || !bytes.Equal(b, bytes.Repeat(append(line, '\n'), len(b)/(len(line)+1))) {
					t.Errorf("read %d bytes %.20q, %v", len(b), b, err)
				}
			}
		})
	}
	wg.Go(func() { // somebody recalls whatever there is
		s := v.session()
		for time.Now().Before(stop) {
			v.mu.Lock()
			var inos []twofold.Ino
			for ino := range v.inodes {
				inos = append(inos, ino)
			}
			v.mu.Unlock()
			for _, ino := range inos {
				s.GetAttr(context.Background(), ino)
			}
			time.Sleep(time.Millisecond)
		}
	})
	wg.Wait()
}
