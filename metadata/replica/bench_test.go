package replica

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold/metadata"
)

// BenchmarkApply measures commits of 4 KiB commands at 32 clients.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{3, 4} {
		for _, clients := range []int{1, 32} {
			b.Run(fmt.Sprintf("replicas=%d/clients=%d", n, clients), func(b *testing.B) {
				g := openTest(b, Options{Dirs: testDirs(b, n), Bootstrap: true})
				value := make([]byte, 4096)
				rand.Read(value)
				run(b, clients, func(i int) {
					if _, err := g.Apply(context.Background(), set(fmt.Sprint("k", i), string(value))); err != nil {
						b.Error(err)
					}
				})
			})
		}
	}
}

// BenchmarkView measures reads without writes.
func BenchmarkView(b *testing.B) {
	for _, clients := range []int{1, 32} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			g := openTest(b, Options{Dirs: testDirs(b, 4), Bootstrap: true})
			if _, err := g.Apply(context.Background(), set("a", "b")); err != nil {
				b.Fatal(err)
			}
			run(b, clients, func(int) {
				err := g.View(context.Background(), func(v metadata.View) error {
					_, err := v.Config("a")
					return err
				})
				if err != nil {
					b.Error(err)
				}
			})
		})
	}
}

func run(b *testing.B, clients int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				i := int(next.Add(1))
				if i > b.N {
					return
				}
				do(i)
			}
		}()
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "op/s")
}
