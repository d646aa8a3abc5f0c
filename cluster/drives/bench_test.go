package drives

import (
	"fmt"
	"testing"

	"twofold"
	"twofold/engine"
)

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkEngine writes and reads blobs with an engine at EC:2 over 4 drives of this
// process, and over 4 drives of other nodes behind loopback (which this process is, too:
// both ends' work is counted).
func BenchmarkEngine(b *testing.B) {
	for _, where := range []string{"local", "remote"} {
		for _, size := range []int{16 << 10, 1 << 20, 64 << 20} {
			var e *engine.Engine
			if where == "local" {
				e = overLocals(b, 4, 2)
			} else {
				e, _, _ = overNodes(b, 4, 2, -1, engine.Options{})
			}
			p := content(size, 1)
			next := uint64(0)
			var blob twofold.Blob
			b.Run(fmt.Sprintf("write/%s/%dKiB", where, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					next++
					var err error
					if blob, err = write(b, e, next, p); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("read/%s/%dKiB", where, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r, err := e.Open(b.Context(), blob)
					if err == nil {
						_, err = r.WriteRange(b.Context(), discard{}, 0, blob.Size)
						r.Close()
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
