package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
)

// TestQuotaRefusesWrites: write(2) is EDQUOT where the file may not grow, and takes
// nothing; what was taken is written by fsync and close. Over what is there it is let in.
func TestQuotaRefusesWrites(t *testing.T) {
	v := newFakeVolume()
	const quota = 40<<20 + 12345
	v.quota = quota
	a, b := mountFake(t, v, nil), mountFake(t, v, nil)
	// Several writers, in two mounts, never get beyond it together.
	chunk := bytes.Repeat([]byte("z"), 1<<20)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i := range 4 {
		m := []*testMount{a, b}[i%2]
		wg.Go(func() {
			f, err := os.Create(m.path(fmt.Sprint("f", i)))
			if err != nil {
				t.Error(err)
				return
			}
			size := 0
			for {
				n, err := f.Write(chunk)
				if size += n; err == nil {
					continue
				}
				if n != 0 || !errors.Is(err, syscall.EDQUOT) {
					t.Errorf("%d bytes and %v", n, err)
				}
				break
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Errorf("a flush, after write(2) had taken the bytes: %v", err)
			}
			if st, err := os.Stat(m.path(fmt.Sprint("f", i))); err != nil || st.Size() != int64(size) {
				t.Errorf("%v, %v, and %d bytes were taken", st, err, size)
			}
			mu.Lock()
			total += size
			mu.Unlock()
		})
	}
	wg.Wait()
	if total > quota {
		t.Errorf("%d bytes of %d", total, quota)
	}
	// What closed files had reserved is free, behind their RELEASE, for which close(2) does
	// not wait: the rest fits to the byte.
	poll(t, "the closed files' reserves are back", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, in := range v.inodes {
			if in.reserve != 0 {
				return false
			}
		}
		return true
	})
	f, err := os.Create(a.path("rest"))
	must(t, err)
	rest := make([]byte, quota-total)
	for p := rest; len(p) > 0; p = p[min(len(p), len(chunk)):] {
		_, err := f.Write(p[:min(len(p), len(chunk))])
		must(t, err)
	}
	_, err = f.Write([]byte("x"))
	wantErrno(t, err, syscall.EDQUOT)
	_, err = f.WriteAt([]byte("over"), 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), 1<<40)
	wantErrno(t, err, syscall.EDQUOT) // a hole counts
	must(t, f.Sync())
	must(t, f.Close())
	must(t, os.Remove(b.path("f0")))
	must(t, os.WriteFile(b.path("again"), []byte("x"), 0644))
}
