package fusefs

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkMountBehind makes, writes, renames and removes small files in a mount that has the
// directory's lease, on the fake volume: what the mount's process costs.
func BenchmarkMountBehind(b *testing.B) {
	v := tokensAbove()
	v.quick = true
	m := mountFake(b, v, func(o *Options) { o.WriteBehind = true })
	data := make([]byte, 4096)
	dir := m.path("d")
	if err := os.Mkdir(dir, 0755); err != nil {
		b.Fatal(err)
	}
	for range 3 {
		name := fmt.Sprint(dir, "/", time.Now().UnixNano())
		if err := os.WriteFile(name, data, 0644); err != nil {
			b.Fatal(err)
		}
	}
	poll(b, "the lease", func() bool {
		before := m.count("Create")
		if err := os.WriteFile(fmt.Sprint(dir, "/", time.Now().UnixNano()), data, 0644); err != nil {
			b.Fatal(err)
		}
		return m.count("Create") == before
	})
	b.Run("create", func(b *testing.B) {
		for i := range b.N {
			if err := os.WriteFile(fmt.Sprintf("%s/%d-%d", dir, b.N, i), data, 0644); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unlink", func(b *testing.B) {
		for i := range b.N {
			if err := os.WriteFile(fmt.Sprintf("%s/u%d-%d", dir, b.N, i), nil, 0644); err != nil {
				b.Fatal(err)
			}
		}
		b.ResetTimer()
		for i := range b.N {
			if err := os.Remove(fmt.Sprintf("%s/u%d-%d", dir, b.N, i)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
