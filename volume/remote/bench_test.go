package remote

import (
	"context"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/volume/api"
)

func benchClient(b *testing.B) *Client {
	attr := api.Attr{Ino: 4711, Type: metadata.TypeFile, Mode: 0o644, Nlink: 1, Size: 12345, Mtime: twofold.Now(), Ctime: twofold.Now(), Version: 3, ETag: "0123456789abcdef0123456789abcdef"}
	st := newStore(func(*fakeSession) hook {
		return func(_ context.Context, name string, args ...any) ([]any, error) {
			switch name {
			case "Read":
				return []any{len(args[2].([]byte))}, nil
			case "Release":
				return nil, nil
			}
			return []any{attr}, nil
		}
	})
	return dialNode(b, startNode(b, st).addr, &mount{})
}

func BenchmarkGetAttr(b *testing.B) {
	c := benchClient(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.GetAttr(b.Context(), 4711); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetAttrParallel(b *testing.B) {
	c := benchClient(b)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.GetAttr(b.Context(), 4711); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCreate(b *testing.B) {
	c := benchClient(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := c.Create(b.Context(), 2, "a file", api.Create{Type: metadata.TypeFile, Mode: 0o644}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead1MiB(b *testing.B) {
	c := benchClient(b)
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := c.Read(b.Context(), 4711, 0, buf); err != nil || n != len(buf) {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkWrite1MiB(b *testing.B) {
	c := benchClient(b)
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(b.Context(), 4711, api.Write{Token: 1, Segments: []api.Segment{{Data: buf}}, Size: 1 << 20}); err != nil {
			b.Fatal(err)
		}
	}
}
