package metadata

import (
	"bytes"
	"testing"
)

// What decodes encodes again, and those bytes are stable: replicas that read one
// record and write it are alike.
func FuzzDecodeCommand(f *testing.F) {
	for op := OpBeginSession; op <= OpRevoke; op++ {
		if b, err := Encode(&Command{Op: op, Session: 1, Seq: 2, Body: body(op)}); err == nil {
			f.Add(b)
		}
	}
	b, _ := Encode(&Command{Op: OpPutObject, Body: PutObject{Bucket: 1, Key: "k", Content: Content{Size: 3, UserMeta: map[string]string{"a": "b"}},
		Extents: []Extent{{Len: 3, Data: []byte("abc")}}}})
	f.Add(b)
	b, _ = Encode(&Command{Op: OpNop, Guard: []Target{{Ino: 7, Names: []string{"a", ""}}, {Ino: 8}}})
	f.Add(b)
	b, _ = Encode(&Command{Op: OpBatch, Body: Batch{Session: 1, Ops: []BatchOp{{Ino: 5, Body: &Create{Name: Name{Comp: "x"}}},
		{Ino: 5, Body: &Write{Ino: 5, Extents: []Extent{{Len: 1, Data: []byte("y")}}}}, {Body: &Rename{}}, {Body: &SetAttr{}}}}})
	f.Add(b)
	b, _ = Encode(&Command{Op: OpNop, Guard: []Target{}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		once, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := Encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x (%v)", once, twice, err)
		}
	})
}

func fuzzRecord[T any](f *testing.F, decode func([]byte) (T, error), encode func(T) ([]byte, error), seeds ...T) {
	for _, s := range seeds {
		b, err := encode(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decode(b)
		if err != nil {
			return
		}
		once, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		v, err = decode(once)
		if err != nil {
			t.Fatalf("%x does not decode: %v", once, err)
		}
		if twice, err := encode(v); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x (%v)", once, twice, err)
		}
	})
}

func FuzzDecodeInode(f *testing.F) {
	fuzzRecord(f, DecodeInode, func(i *Inode) ([]byte, error) { return EncodeInode(i), nil }, &Inode{}, benchInode(),
		&Inode{Xattrs: map[string][]byte{"a": nil, "b": {}}, Checksum: &Checksum{Algorithm: "CRC32"}, Parts: []int64{1, -2}})
}

func FuzzDecodeExtent(f *testing.F) {
	fuzzRecord(f, DecodeExtent, func(e Extent) ([]byte, error) { return EncodeExtent(&e), nil }, Extent{Len: 1, Data: []byte{0}})
}

func FuzzDecodeEntry(f *testing.F) {
	fuzzRecord(f, DecodeEntry, func(e Entry) ([]byte, error) { return EncodeEntry(&e), nil }, Entry{Ino: 1, Type: TypeDir})
}

func FuzzDecodePart(f *testing.F) {
	fuzzRecord(f, DecodePart, EncodePart, &Part{Number: 1, Extents: []Extent{{Len: 1, Data: []byte{1}}}})
}

func FuzzDecodeUpload(f *testing.F) { fuzzRecord(f, DecodeUpload, EncodeUpload, &Upload{Key: "k"}) }

func FuzzDecodeResult(f *testing.F) {
	fuzzRecord(f, DecodeResult, EncodeResult, &Result{}, &Result{Failed: true, Kind: 3, Inode: benchInode(), Bucket: &Bucket{ID: 1}})
}
