package fsm

import (
	"fmt"
	"log/slog"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// benchStores are what the benchmarks run on.
func benchStores(b *testing.B, run func(b *testing.B, s kv.Store)) {
	b.Run("memory", func(b *testing.B) { run(b, kv.NewMemory()) })
	b.Run("badger", func(b *testing.B) {
		s, err := kv.Open(b.TempDir(), kv.Options{Bulky: Bulky, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		run(b, s)
	})
}

func benchRig(b *testing.B, s kv.Store) *rig {
	r := &rig{t: b, store: s, now: 1}
	r.reopen()
	res := r.raw(&metadata.Command{Op: metadata.OpBeginSession, Body: &metadata.BeginSession{Kind: metadata.SessionServer, Nonce: twofold.UUID{1}}})
	r.session = twofold.SessionID(res.ID)
	return r
}

// encoded is a command of the rig's session, not yet applied.
func (r *rig) encoded(op metadata.Op, body any) Entry {
	r.seq++
	r.index++
	data, err := metadata.Encode(&metadata.Command{Op: op, Session: r.session, Seq: r.seq, Acked: max(r.seq, 64) - 64, Writer: r.session, Now: 5, Body: body})
	if err != nil {
		r.t.Fatal(err)
	}
	return Entry{Index: r.index, Term: 1, Data: data}
}

func smallPut(b *metadata.Bucket, key string, n int) metadata.PutObject {
	p := metadata.PutObject{Bucket: b.ID, Key: twofold.Key(key), Content: metadata.Content{Size: int64(n), ETag: emptyMD5,
		Headers: map[string]string{"Content-Type": "application/octet-stream"}}}
	if n > 0 {
		p.Extents = []metadata.Extent{{Len: int64(n), Data: make([]byte, n)}}
	}
	return p
}

func BenchmarkPut4K(b *testing.B) {
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			benchStores(b, func(b *testing.B, s kv.Store) {
				r := benchRig(b, s)
				bucket := r.bucket("b")
				n := 0
				var entries []Entry
				for b.Loop() {
					if len(entries) == 0 {
						b.StopTimer()
						for range batch {
							n++
							entries = append(entries, r.encoded(metadata.OpPutObject, smallPut(bucket, fmt.Sprintf("dir%d/object-%d", n%10, n), 4096)))
						}
						b.StartTimer()
					}
					if len(entries) == batch {
						if _, err := r.m.ApplyBatch(entries); err != nil {
							b.Fatal(err)
						}
					}
					entries = entries[1:]
				}
			})
		})
	}
}

// fill puts n empty objects, by batches.
func (r *rig) fill(b *metadata.Bucket, n int, key func(int) string) {
	for i := 0; i < n; {
		var entries []Entry
		for ; i < n && len(entries) < 1000; i++ {
			entries = append(entries, r.encoded(metadata.OpPutObject, smallPut(b, key(i), 0)))
		}
		if _, err := r.m.ApplyBatch(entries); err != nil {
			r.t.Fatal(err)
		}
	}
}

func BenchmarkList1000Of100k(b *testing.B) {
	benchStores(b, func(b *testing.B, s kv.Store) {
		r := benchRig(b, s)
		bucket := r.bucket("b")
		r.fill(bucket, 100_000, func(i int) string { return fmt.Sprintf("d%d/object-%06d", i%7, i) })
		last := ""
		for b.Loop() {
			r.view(func(v metadata.View) {
				p, err := v.List(bucket.ID, metadata.ListQuery{Max: 1000, After: last})
				if err != nil {
					b.Fatal(err)
				}
				if last = ""; p.More {
					last = p.Items[999].Key
				}
			})
		}
	})
}

func BenchmarkRenameDir(b *testing.B) {
	benchStores(b, func(b *testing.B, s kv.Store) {
		r := benchRig(b, s)
		bucket := r.bucket("b")
		r.fill(bucket, 100_000, func(i int) string { return fmt.Sprintf("from/%d", i) })
		names := [2]metadata.Name{{Comp: "from"}, {Comp: "to"}}
		for n := 0; b.Loop(); n++ {
			r.ok(metadata.OpRename, metadata.Rename{OldParent: bucket.Root, OldName: names[n%2], NewParent: bucket.Root, NewName: names[1-n%2]})
		}
	})
}
