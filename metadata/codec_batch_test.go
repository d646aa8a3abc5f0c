package metadata

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
)

func genName(t *rapid.T) Name {
	return Name{Comp: rapid.StringN(0, 30, 60).Draw(t, "comp"), File: rapid.Bool().Draw(t, "file")}
}

func genBody(t *rapid.T) any {
	u32, i64 := rapid.Uint32(), rapid.Int64()
	ino := func() twofold.Ino { return twofold.Ino(rapid.Uint64().Draw(t, "ino")) }
	clock := func() twofold.Time { return twofold.Time(i64.Draw(t, "time")) }
	switch rapid.IntRange(0, 5).Draw(t, "op") {
	case 0:
		return &Create{Parent: ino(), Name: genName(t), Type: Type(rapid.Uint8().Draw(t, "type")), Mode: u32.Draw(t, "mode"), UID: u32.Draw(t, "uid"),
			GID: u32.Draw(t, "gid"), Rdev: u32.Draw(t, "rdev"), Target: rapid.String().Draw(t, "target"), Exclusive: rapid.Bool().Draw(t, "excl"),
			Asked: u32.Draw(t, "asked")}
	case 1:
		c := &Write{Ino: ino(), Size: i64.Draw(t, "size"), Mtime: clock(), Atime: clock(), ETag: rapid.String().Draw(t, "etag"),
			KillPriv: rapid.Bool().Draw(t, "kill"), Unbounded: rapid.Bool().Draw(t, "unbounded")}
		for range rapid.IntRange(0, 3).Draw(t, "extents") {
			c.Extents = append(c.Extents, *genExtent(t))
		}
		for range rapid.IntRange(0, 3).Draw(t, "holes") {
			c.Punch = append(c.Punch, Range{Off: i64.Draw(t, "off"), Len: i64.Draw(t, "len")})
		}
		if rapid.Bool().Draw(t, "crowd") {
			c.Crowd = &Crowd{Extents: int(u32.Draw(t, "many")), Bytes: i64.Draw(t, "bytes")}
		}
		return c
	case 2:
		c := &SetAttr{Ino: ino(), ETag: rapid.String().Draw(t, "etag"), KillPriv: rapid.Bool().Draw(t, "kill")}
		for _, p := range []**uint32{&c.Mode, &c.UID, &c.GID} {
			if rapid.Bool().Draw(t, "set") {
				v := u32.Draw(t, "v")
				*p = &v
			}
		}
		for _, p := range []**twofold.Time{&c.Atime, &c.Mtime} {
			if rapid.Bool().Draw(t, "set") {
				v := clock()
				*p = &v
			}
		}
		if rapid.Bool().Draw(t, "set") {
			v := i64.Draw(t, "size")
			c.Size = &v
		}
		return c
	case 3:
		return &Unlink{Parent: ino(), Name: genName(t)}
	case 4:
		return &Rmdir{Parent: ino(), Name: genName(t)}
	default:
		return &Rename{OldParent: ino(), OldName: genName(t), NewParent: ino(), NewName: genName(t), Flags: u32.Draw(t, "flags")}
	}
}

// TestBatchBodies: the bodies in a batch have the bytes that they have in commands of their
// own, and come back.
func TestBatchBodies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &Batch{Session: twofold.SessionID(rapid.Uint64().Draw(t, "session"))}
		for range rapid.IntRange(0, 4).Draw(t, "ops") {
			o := BatchOp{Now: twofold.Time(rapid.Int64().Draw(t, "now")), Ino: twofold.Ino(rapid.Uint64().Draw(t, "ino")),
				Replaced: twofold.Ino(rapid.Uint64().Draw(t, "replaced")), Body: genBody(t)}
			c.Ops = append(c.Ops, o)
			mustBeCBOR(t, appendBody([]byte{RecordVersion}, o.Body), o.Body)
		}
		b, err := Encode(&Command{Op: OpBatch, Session: 1, Seq: 2, Body: c})
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, back.Body, c)
	})
}

// TestBatchRefused: what no encoder writes is refused, and what can't be in a batch.
func TestBatchRefused(t *testing.T) {
	good, err := Encode(&Command{Op: OpBatch, Body: Batch{Session: 3, Ops: []BatchOp{{Now: 1, Ino: 2, Body: &Unlink{Parent: 1, Name: Name{Comp: "x"}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	op := []byte{majorArray<<5 | 5, byte(OpUnlink), 1, 2, 0, 0xa2, 1, 1, 2, 0xa1, 1, 0x61, 'x'}
	if !bytes.Contains(good, op) {
		t.Fatalf("%x does not have %x", good, op)
	}
	for name, b := range map[string][]byte{
		"bytes behind":     append(bytes.Clone(good), 0),
		"cut":              good[:len(good)-1],
		"another op":       bytes.Replace(good, op[:2], []byte{op[0], byte(OpPutObject)}, 1),
		"a missing field":  bytes.Replace(good, op[5:], []byte{0xa1, 1, 1}, 1),
		"an unknown field": bytes.Replace(good, op[5:], []byte{0xa3, 1, 1, 2, 0xa1, 1, 0x61, 'x', 3, 0}, 1),
		"a huge count":     bytes.Replace(good, append([]byte{majorArray<<5 | 1}, op...), []byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 1),
	} {
		if c, err := Decode(b); err == nil || bytes.Equal(b, good) {
			t.Errorf("%s: %x: %+v", name, b, c)
		}
	}
	if _, err := Encode(&Command{Op: OpBatch, Body: Batch{Ops: []BatchOp{{Body: &Link{}}}}}); !errs.Is(err, errs.Invalid) {
		t.Fatal("a link in a batch:", err)
	}
}

// BenchmarkBatchCodec is 256 files of 4 KiB, made and written.
func BenchmarkBatchCodec(b *testing.B) {
	c := &Batch{Session: 9}
	for i := range 256 {
		ino := twofold.Ino(1<<20 + i)
		c.Ops = append(c.Ops,
			BatchOp{Now: 1 << 60, Ino: ino, Body: &Create{Parent: 4711, Name: Name{Comp: fmt.Sprintf("file-%d", i)}, Type: TypeFile, Mode: 0o644, UID: 1000, GID: 1000}},
			BatchOp{Now: 1 << 60, Ino: ino, Body: &Write{Ino: ino, Size: 4096, Mtime: 1 << 60, ETag: "d41d8cd98f00b204e9800998ecf8427e", Extents: []Extent{{Len: 4096, Data: make([]byte, 4096)}}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := Encode(&Command{Op: OpBatch, Session: 1, Seq: 2, Body: c})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Decode(p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(c.Ops)), "ns/op-in-batch")
}
