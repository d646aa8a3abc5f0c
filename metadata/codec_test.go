package metadata

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
)

func genInode(t *rapid.T) *Inode {
	u32 := rapid.Uint32()
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringN(0, 300, 400))
	texts := rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOfN(text, text, 1, 30))
	clock := rapid.Map(rapid.Int64(), func(n int64) twofold.Time { return twofold.Time(n) })
	i := &Inode{
		Ino: twofold.Ino(rapid.Uint64().Draw(t, "ino")), Bucket: twofold.BucketID(rapid.Uint64().Draw(t, "bucket")),
		Type: Type(rapid.Uint8().Draw(t, "type")), Mode: u32.Draw(t, "mode"), UID: u32.Draw(t, "uid"), GID: u32.Draw(t, "gid"),
		ModeSet: rapid.Bool().Draw(t, "modeset"), UIDSet: rapid.Bool().Draw(t, "uidset"), GIDSet: rapid.Bool().Draw(t, "gidset"),
		Nlink: u32.Draw(t, "nlink"), Rdev: u32.Draw(t, "rdev"), Size: rapid.Int64().Draw(t, "size"), Stored: rapid.Int64().Draw(t, "stored"),
		Atime: clock.Draw(t, "atime"), Mtime: clock.Draw(t, "mtime"), Ctime: clock.Draw(t, "ctime"), Btime: clock.Draw(t, "btime"),
		Parent: twofold.Ino(rapid.Uint64().Draw(t, "parent")), Name: text.Draw(t, "name"), Children: rapid.Uint64().Draw(t, "children"),
		Subdirs: u32.Draw(t, "subdirs"), Explicit: rapid.Bool().Draw(t, "explicit"), Target: text.Draw(t, "target"),
		Version: rapid.Uint64().Draw(t, "version"), ETag: text.Draw(t, "etag"), Headers: texts.Draw(t, "headers"), UserMeta: texts.Draw(t, "meta"),
		Class: text.Draw(t, "class"), Parts: rapid.OneOf(rapid.Just([]int64(nil)), rapid.SliceOfN(rapid.Int64(), 1, 40)).Draw(t, "parts"),
	}
	i.Unnamed, i.Charged = rapid.Bool().Draw(t, "unnamed"), rapid.Bool().Draw(t, "charged")
	lists := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 1, 100))
	i.ACL, i.DefaultACL = lists.Draw(t, "acl"), lists.Draw(t, "default")
	i.Reserve = rapid.Int64().Draw(t, "reserve")
	if rapid.Bool().Draw(t, "xattrs") {
		i.Xattrs = rapid.MapOfN(text, rapid.SliceOf(rapid.Byte()), 1, 4).Draw(t, "xattr")
	}
	if rapid.Bool().Draw(t, "checksum") {
		i.Checksum = &Checksum{Algorithm: text.Draw(t, "algo"), Value: text.Draw(t, "value"), Type: text.Draw(t, "ctype")}
	}
	return i
}

func genExtent(t *rapid.T) *Extent {
	e := &Extent{Off: rapid.Int64().Draw(t, "off"), Len: rapid.Int64().Draw(t, "len"), BlobOff: rapid.Int64().Draw(t, "bloboff")}
	if rapid.Bool().Draw(t, "blob") {
		e.Blob = &twofold.Blob{
			ID:   twofold.MakeBlobID(twofold.SessionID(rapid.Uint64().Draw(t, "s")), rapid.Uint64().Draw(t, "n")),
			Set:  twofold.SetID{Pool: rapid.Uint16().Draw(t, "pool"), Set: rapid.Uint16().Draw(t, "set")},
			Data: rapid.Uint8().Draw(t, "data"), Parity: rapid.Uint8().Draw(t, "parity"), Size: rapid.Int64().Draw(t, "bsize"),
		}
	} else {
		e.Data = rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data")
	}
	return e
}

// mustBeCBOR checks bytes made by hand against the reflecting encoder.
func mustBeCBOR(t *rapid.T, got []byte, v any) {
	want, err := canonical.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if want = append([]byte{RecordVersion}, want...); !bytes.Equal(got, want) {
		t.Fatalf("by hand:    %x\nby the book: %x", got, want)
	}
}

func equal(t *rapid.T, got, want any) {
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(twofold.Blob{}, twofold.SetID{}, Result{})); d != "" {
		t.Fatal(d)
	}
}

func TestHotRecords(t *testing.T) {
	t.Run("inode", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			i := genInode(t)
			b := EncodeInode(i)
			mustBeCBOR(t, b, i)
			back, err := DecodeInode(b)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, back, i)
		})
	})
	t.Run("extent", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			e := genExtent(t)
			b := EncodeExtent(e)
			mustBeCBOR(t, b, e)
			back, err := DecodeExtent(b)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, &back, e)
		})
	})
	t.Run("entry", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			e := &Entry{Ino: twofold.Ino(rapid.Uint64().Draw(t, "ino")), Type: Type(rapid.Uint8().Draw(t, "type"))}
			b := EncodeEntry(e)
			mustBeCBOR(t, b, e)
			if back, err := DecodeEntry(b); err != nil || back != *e {
				t.Fatal(back, err)
			}
		})
	})
	t.Run("result", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := &Result{Failed: rapid.Bool().Draw(t, "failed"), Kind: errs.Kind(rapid.Uint8().Draw(t, "kind")), Msg: rapid.String().Draw(t, "msg"),
				ID: rapid.Uint64().Draw(t, "id"), More: rapid.Bool().Draw(t, "more")}
			if rapid.Bool().Draw(t, "inode") {
				r.Inode = genInode(t)
			}
			if rapid.Bool().Draw(t, "bucket") {
				r.Bucket = &Bucket{ID: 1, Name: "b", Root: 2, Created: 3}
			}
			b, err := EncodeResult(r)
			if err != nil {
				t.Fatal(err)
			}
			mustBeCBOR(t, b, r)
			back, err := DecodeResult(b)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, back, r)
		})
	})
}

// TestEveryOp: each operation has a body that goes there and back.
func TestEveryOp(t *testing.T) {
	for op := OpBeginSession; op <= OpRevoke; op++ {
		want := &Command{Op: op, Session: 1, Seq: 2, Acked: 3, Writer: 4, Now: -5, Body: body(op)}
		if want.Body == nil {
			t.Fatalf("operation %d has no body", op)
		}
		b, err := Encode(want)
		if err != nil {
			t.Fatal(op, err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v %v, want %+v", got, err, want)
		}
		byValue := *want
		byValue.Body = reflect.ValueOf(want.Body).Elem().Interface()
		if b2, err := Encode(&byValue); err != nil || !bytes.Equal(b, b2) {
			t.Fatalf("operation %d: a body by value: %x %v, want %x", op, b2, err, b)
		}
	}
	if _, err := Encode(&Command{Op: OpLink, Body: Unlink{}}); !errs.Is(err, errs.Invalid) {
		t.Fatal("a body of another operation:", err)
	}
}

// TestRefused: what this version does not know is an error, never a guess.
func TestRefused(t *testing.T) {
	good, _ := Encode(&Command{Op: OpUnlink, Body: Unlink{Parent: 1, Name: Name{Comp: "x"}}})
	for name, b := range map[string][]byte{
		"empty":             {},
		"a later version":   append([]byte{CommandVersion + 1}, good[1:]...),
		"an unknown op":     bytes.Replace(good, []byte{majorArray<<5 | 7, byte(OpUnlink)}, []byte{majorArray<<5 | 7, 0x18, 99}, 1),
		"bytes behind":      append(bytes.Clone(good), 0),
		"cut":               good[:len(good)-1],
		"an unknown field":  mustHex(t, "01870e000000000"+"0a101"+"01"+"0901"),
		"an array too long": bytes.Replace(good, []byte{majorArray<<5 | 7}, []byte{majorArray<<5 | 8}, 1),
		"too long":          append([]byte{CommandVersion}, make([]byte, MaxCommandLen)...),
	} {
		if c, err := Decode(b); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	inode := EncodeInode(&Inode{Ino: 5})
	for name, b := range map[string][]byte{
		"empty":           {},
		"a later version": append([]byte{RecordVersion + 1}, inode[1:]...),
		"cut":             inode[:len(inode)-1],
		"bytes behind":    append(bytes.Clone(inode), 0),
		"a repeated key":  {1, 0xa2, 1, 1, 1, 2},
		"keys descending": {1, 0xa2, 2, 1, 1, 2},
		"a long form":     {1, 0xa1, 1, 0x18, 5},
		"an unknown key":  {1, 0xa1, 0x18, 39, 5},
		"a huge count":    {1, 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a huge string":   {1, 0xa1, 0x13, 0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"out of range":    {1, 0xa1, 4, 0x1b, 1, 0, 0, 0, 0, 0, 0, 0},
	} {
		if i, err := DecodeInode(b); err == nil {
			t.Errorf("%s: %+v", name, i)
		}
	}
}

func mustHex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s[:len(s)&^1])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFrozen: these bytes are on disks. They may gain fields, never change.
func TestFrozen(t *testing.T) {
	blob := &twofold.Blob{ID: twofold.MakeBlobID(7, 9), Set: twofold.SetID{Pool: 1, Set: 2}, Data: 2, Parity: 2, Size: 1 << 20}
	command, err := Encode(&Command{Op: OpUnlink, Session: 1, Seq: 2, Acked: 3, Writer: 4, Now: -5, Body: Unlink{Parent: 1024, Name: Name{Comp: "x", File: true}}})
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(op Op, body any) []byte {
		b, err := Encode(&Command{Op: op, Session: 1, Seq: 2, Acked: 3, Now: 10, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	guarded, err := Encode(&Command{Op: OpUnlink, Session: 1, Seq: 2, Acked: 3, Writer: 4, Now: -5, Body: Unlink{Parent: 1024, Name: Name{Comp: "x"}},
		Guard: []Target{{Ino: 1024, Names: []string{"x", "yy"}}, {Ino: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	inode := &Inode{
		Ino: 1024, Bucket: 1, Type: TypeFile, Mode: 0o644, UID: 1, GID: 2, ModeSet: true, UIDSet: true, GIDSet: true, Nlink: 1, Rdev: 3,
		Size: 4, Stored: 5, Atime: 6, Mtime: 7, Ctime: 8, Btime: -9, Parent: 10, Name: "n", Children: 11, Subdirs: 12, Explicit: true,
		Target: "t", Version: 13, ETag: "e", Headers: map[string]string{"H": "v"}, UserMeta: map[string]string{"bb": "2", "a": "1"},
		Xattrs: map[string][]byte{"x": {1}}, Checksum: &Checksum{Algorithm: "CRC32", Value: "v", Type: "FULL_OBJECT"}, Class: "c", Parts: []int64{1, 2},
	}
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"command", "01870e0102030424a20119040002a201617802f5", command},
		{"guarded command", "02880e01020304248282190400826178627979820780a20119040002a1016178", guarded},
		{"inode", "01b81f0119040002010301041901a40501060207f508f509f50a010b030c040d050e060f0710081128120a13616e140b150c16f517617418180d18196165181aa161486176181ba2616161316262626132181ca161784101181da301654352433332026176036b46554c4c5f4f424a454354181e6163181f820102", EncodeInode(inode)},
		{"unnamed inode", "01a501190400020103010a001820f5", EncodeInode(&Inode{Ino: 1024, Bucket: 1, Type: TypeFile, Unnamed: true})},
		{"inode with ACLs", "01a601190400020103020a00182141051822420607", EncodeInode(&Inode{Ino: 1024, Bucket: 1, Type: TypeDir, ACL: []byte{5}, DefaultACL: []byte{6, 7}})},
		{"create", "01870c010203000aa70119040002a1016178030104190180050106020a1901b6", encoded(OpCreate, Create{Parent: 1024, Name: Name{Comp: "x"}, Type: TypeFile, Mode: 0o600, UID: 1, GID: 2, Asked: 0o666})},
		{"set ACL", "0187181d010203000aa40119040002f503410504f5", encoded(OpSetACL, SetACL{Ino: 1024, Default: true, Value: []byte{5}, KillSetGID: true})},
		{"inode with a reserve", "01a601190400020103010a001823051824f5", EncodeInode(&Inode{Ino: 1024, Bucket: 1, Type: TypeFile, Reserve: 5, Charged: true})},
		{"usage", "01a3010102020319012c", EncodeUsage(&Usage{Used: 1, Reserved: 2, Limit: 300})},
		{"count usage", "0187181e010203000aa10105", encoded(OpCountUsage, CountUsage{Max: 5})},
		{"set quota", "0187181f010203000aa20161620205", encoded(OpSetQuota, SetQuota{Bucket: "b", Limit: 5})},
		{"reserve", "01871820010203000aa30119040002050306", encoded(OpReserve, Reserve{Ino: 1024, Size: 5, Slack: 6})},
		{"tmpfile", "0187181b010203000aa4011904000219018003010402", encoded(OpTmpfile, Tmpfile{Parent: 1024, Mode: 0o600, UID: 1, GID: 2})},
		{"copy range", "0187181c010203000aa70119040002050319040104060507060807f5", encoded(OpCopyRange, CopyRange{Src: 1024, SrcOff: 5, Dst: 1025, DstOff: 6, Len: 7, Mtime: 8, KillPriv: true})},
		{"reserve inodes", "01871821010203000aa2010502190400", encoded(OpReserveInos, ReserveInos{Session: 5, N: 1024})},
		{"batch", "01871822010203000a820581851025190400190401a40119040202a10161780319040304a201617902f5", encoded(OpBatch, Batch{Session: 5, Ops: []BatchOp{{Now: -6, Ino: 1024, Replaced: 1025,
			Body: &Rename{OldParent: 1026, OldName: Name{Comp: "x"}, NewParent: 1027, NewName: Name{Comp: "y", File: true}}}}})},
		{"free inodes", "01871823010203000aa20182190400050207", encoded(OpFreeInodes, FreeInodes{Inos: []twofold.Ino{1024, 5}, Max: 7})},
		{"revoke", "01871824010203000aa4010502810603811904000481190401", encoded(OpRevoke, Revoke{ID: 5, Tokens: []uint64{6}, Locks: []twofold.Ino{1024}, Closed: []twofold.Ino{1025}})},
		{"entry", "01a2011904000201", EncodeEntry(&Entry{Ino: 1024, Type: TypeFile})},
		{"extent", "01a4010102020385500000000000000007000000000000000982010202021a001000000403", EncodeExtent(&Extent{Off: 1, Len: 2, Blob: blob, BlobOff: 3})},
		{"inline extent", "01a2020205426869", EncodeExtent(&Extent{Len: 2, Data: []byte("hi")})},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func benchInode() *Inode {
	return &Inode{Ino: 123456, Bucket: 3, Type: TypeFile, Nlink: 1, Size: 4096, Stored: 4096, Atime: twofold.Now(), Mtime: twofold.Now(), Ctime: twofold.Now(),
		Btime: twofold.Now(), Parent: 1234, Name: "some-object-name-0001", Version: 1, ETag: "d41d8cd98f00b204e9800998ecf8427e",
		Headers: map[string]string{"Content-Type": "application/octet-stream"}}
}

func BenchmarkDecodeInode(b *testing.B) {
	p := EncodeInode(benchInode())
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeInode(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reflect", func(b *testing.B) {
		for b.Loop() {
			if err := strict.Unmarshal(p[1:], new(Inode)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncodeInode(b *testing.B) {
	i := benchInode()
	b.ReportAllocs()
	for b.Loop() {
		EncodeInode(i)
	}
}

func BenchmarkDecodeExtent(b *testing.B) {
	p := EncodeExtent(&Extent{Len: 4096, Data: make([]byte, 4096)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeExtent(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeCommand(b *testing.B) {
	p, err := Encode(&Command{Op: OpPutObject, Session: 1, Seq: 2, Acked: 1, Writer: 1, Now: twofold.Now(), Body: PutObject{Bucket: 1, Key: "some/object/name",
		Content: Content{Size: 4096, ETag: "d41d8cd98f00b204e9800998ecf8427e", Headers: map[string]string{"Content-Type": "application/octet-stream"}},
		Extents: []Extent{{Len: 4096, Data: make([]byte, 4096)}}}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(p); err != nil {
			b.Fatal(err)
		}
	}
}
