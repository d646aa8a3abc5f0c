package rpc

import (
	"testing"
)

func BenchmarkSmallCall(b *testing.B) {
	e := newEndpoint(b, testConfig(b, RoleNode))
	c, _ := dialTest(b, e)
	b.ReportAllocs()
	for b.Loop() {
		var out text
		if _, err := c.Call(b.Context(), &Call{Method: mEcho, Header: text{"a name"}, Reply: &out}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSmallCallParallel(b *testing.B) {
	e := newEndpoint(b, testConfig(b, RoleNode))
	c, _ := dialTest(b, e)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			var out text
			if _, err := c.Call(b.Context(), &Call{Method: mEcho, Header: text{"a name"}, Reply: &out}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkEcho1MiB sends and gets 1 MiB a call.
func BenchmarkEcho1MiB(b *testing.B) {
	e := newEndpoint(b, testConfig(b, RoleNode))
	c, _ := dialTest(b, e)
	data, into := make([]byte, 1<<20), make([]byte, 1<<20)
	b.SetBytes(2 << 20)
	b.ReportAllocs()
	for b.Loop() {
		var out text
		if _, err := c.Call(b.Context(), &Call{Method: mEcho, Header: text{"x"}, Payload: [][]byte{data}, Reply: &out, Into: into}); err != nil {
			b.Fatal(err)
		}
	}
}
