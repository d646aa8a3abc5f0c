package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/vfs"
)

// localEngine is an engine over n drives in directories of the file system that holds
// the temporary directory.
func localEngine(t testing.TB, n, parity int) (*Engine, []*drive.Local) {
	t.Helper()
	cluster := twofold.NewUUID()
	set := SetConfig{Parity: parity}
	var drives []*drive.Local
	dir := t.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint("data", i+1))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		f := drive.Format{
			Version: drive.FormatVersion, Cluster: cluster, Drive: twofold.NewUUID(), Index: i, Sets: 1, SetSize: n, Created: twofold.Now(),
		}
		if err := drive.WriteFormat(vfs.OS(), path, f); err != nil {
			t.Fatal(err)
		}
		d, err := drive.Open(context.Background(), drive.Options{Path: path, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		drives = append(drives, d)
		set.Slots = append(set.Slots, drive.NewSlot(set.ID, i, d))
	}
	e, err := Open(Options{Cluster: cluster, Sets: []SetConfig{set}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, drives
}

var benchSizes = []int{64 << 10, 1 << 20, 8 << 20}

// parallel runs fn b.N times by so many clients at once.
func parallel(b *testing.B, clients int, fn func(n int64)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				fn(n)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// BenchmarkWrite writes blobs to 4 drives at EC:2, durably. The plain one writes as
// many bytes to 4 files and fsyncs them: what the engine is to come near.
func BenchmarkWrite(b *testing.B) {
	for _, size := range benchSizes {
		for _, clients := range []int{1, 8} {
			p := content(size, 1)
			b.Run(fmt.Sprintf("engine/%dKiB/%d", size>>10, clients), func(b *testing.B) {
				e, _ := localEngine(b, 4, 2)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				parallel(b, clients, func(n int64) {
					o := WriteOptions{ID: twofold.MakeBlobID(1, uint64(n)), Parity: -1, SizeHint: int64(size)}
					if _, err := e.Write(b.Context(), o, bytes.NewReader(p)); err != nil {
						b.Error(err)
					}
				})
			})
			b.Run(fmt.Sprintf("plain/%dKiB/%d", size>>10, clients), func(b *testing.B) {
				dir := b.TempDir()
				b.SetBytes(int64(size))
				parallel(b, clients, func(n int64) {
					var wg sync.WaitGroup
					for i := range 4 {
						wg.Go(func() {
							f, err := os.Create(fmt.Sprintf("%s/%d.%d", dir, n, i))
							if err == nil {
								_, err = f.Write(p[:size/2])
							}
							if err == nil {
								err = f.Sync()
							}
							if err != nil {
								b.Error(err)
							}
							f.Close()
						})
					}
					wg.Wait()
				})
			})
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkRead opens and reads blobs from 4 drives at EC:2 that are in the page
// cache; degraded with a data shard gone. The plain one reads as many bytes from 2
// files.
func BenchmarkRead(b *testing.B) {
	const blobs = 8
	for _, size := range benchSizes {
		for _, clients := range []int{1, 8} {
			e, drives := localEngine(b, 4, 2)
			var all []twofold.Blob
			for i := range blobs {
				blob, err := e.Write(b.Context(), WriteOptions{ID: twofold.MakeBlobID(1, uint64(i)), Parity: -1}, bytes.NewReader(content(size, 1)))
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, blob)
			}
			read := func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				parallel(b, clients, func(n int64) {
					r, err := e.Open(b.Context(), all[n%blobs])
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := r.WriteRange(b.Context(), discard{}, 0, int64(size)); err != nil {
						b.Error(err)
					}
					r.Close()
				})
			}
			b.Run(fmt.Sprintf("engine/%dKiB/%d", size>>10, clients), read)
			b.Run(fmt.Sprintf("plain/%dKiB/%d", size>>10, clients), func(b *testing.B) {
				dir := b.TempDir()
				for i := range 2 * blobs {
					if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), content(size/2, 1), 0o644); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(size))
				bufs := sync.Pool{New: func() any { return new([1 << 20]byte) }}
				parallel(b, clients, func(n int64) {
					buf := bufs.Get().(*[1 << 20]byte)
					defer bufs.Put(buf)
					for i := range int64(2) {
						f, err := os.Open(fmt.Sprintf("%s/%d", dir, (2*n+i)%(2*blobs)))
						if err != nil {
							b.Error(err)
							return
						}
						for {
							if _, err := f.Read(buf[:]); err == io.EOF {
								break
							}
						}
						f.Close()
					}
				})
			})
			drives[0].Close()
			b.Run(fmt.Sprintf("degraded/%dKiB/%d", size>>10, clients), read)
		}
	}
}

// BenchmarkReadAt reads 4 KiB at random from one large blob.
func BenchmarkReadAt(b *testing.B) {
	e, _ := localEngine(b, 4, 2)
	const size = 256 << 20
	blob, err := e.Write(b.Context(), WriteOptions{ID: twofold.MakeBlobID(1, 1), Parity: -1}, io.LimitReader(zeros{}, size))
	if err != nil {
		b.Fatal(err)
	}
	for _, step := range []int64{4096, 12345 * 4096} {
		b.Run(fmt.Sprintf("step%d", step), func(b *testing.B) {
			b.ReportAllocs()
			p := make([]byte, 4096)
			off := int64(0)
			for b.Loop() {
				if _, err := e.ReadAt(b.Context(), blob, p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + step) % (size - 4096)
			}
		})
	}
}
