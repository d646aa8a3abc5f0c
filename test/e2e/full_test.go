package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"twofold/test/harness"
)

// TestMountFillsTheStore: programs write to small drives until they are full. Whatever
// write(2) took, S3 has afterwards; the rest was ENOSPC there, and fsync and close don't
// fail.
func TestMountFillsTheStore(t *testing.T) {
	harness.NeedMount(t)
	s := newStore(t, harness.WithDrives(harness.SmallDrives(t, 4, "96m")...))
	s.bucket("bbb")
	const size = 32 << 20
	data := content(7, size)
	var mu sync.Mutex
	sizes := map[string]int{}
	var wg sync.WaitGroup
	for i, piece := range []int{1 << 20, 100_000} {
		wg.Go(func() {
			for j := 0; ; j++ {
				name := fmt.Sprintf("f%d-%d", i, j)
				n, full, err := fill(s.Path("bbb", name), data, piece)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				sizes[name] = n
				mu.Unlock()
				if full || err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	all := 0
	for name, n := range sizes {
		all += n
		if got := s.get("bbb", name); !bytes.Equal(got, data[:n]) {
			t.Errorf("%s: write(2) took %d bytes, S3 has %d, or other ones", name, n, len(got))
		}
	}
	t.Logf("%d MiB in %d files", all>>20, len(sizes))
	if all < 64<<20 {
		t.Errorf("the drives were full after %d MiB", all>>20)
	}
}

// fill writes data piece by piece to a new file until it is all there or ENOSPC, and
// makes it durable. It returns how many bytes were taken; any other failure, and one of
// fsync(2) or close(2), is the error.
func fill(path string, data []byte, piece int) (n int, full bool, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, false, err
	}
	for n < len(data) && !full {
		k, err := f.Write(data[n:min(n+piece, len(data))])
		n += k
		full = errors.Is(err, syscall.ENOSPC)
		if err != nil && !full {
			f.Close()
			return n, false, fmt.Errorf("write(2): %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return n, full, fmt.Errorf("fsync(2): %w", err)
	}
	if err := f.Close(); err != nil {
		return n, full, fmt.Errorf("close(2): %w", err)
	}
	return n, full, nil
}
