package drive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/internal/vfs/memfs"
)

func anyHeader(t *rapid.T) ShardHeader {
	var h ShardHeader
	copy(h.Cluster[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "cluster"))
	copy(h.Blob[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "blob"))
	h.Set = twofold.SetID{Pool: rapid.Uint16().Draw(t, "pool"), Set: rapid.Uint16().Draw(t, "set")}
	h.Data = rapid.Uint8Range(1, 16).Draw(t, "data")
	h.Parity = rapid.Uint8Range(0, 16).Draw(t, "parity")
	h.Index = rapid.Uint8Range(0, h.Data+h.Parity-1).Draw(t, "index")
	h.Stripe = rapid.Uint32Range(1, maxStripe).Draw(t, "stripe")
	h.Piece = rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32Min(minPiece)).Draw(t, "piece")
	h.Created = twofold.Time(rapid.Int64().Draw(t, "created"))
	return h
}

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHeader(t)
		b := appendHeader(nil, &h)
		if len(b) != headerLen {
			t.Fatalf("%d bytes", len(b))
		}
		got, err := parseHeader(b)
		if err != nil || got != h {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestTailRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyHeader(t)
		tr := ShardTrailer{
			Size:    rapid.Int64Range(0, twofold.MaxObjectLen).Draw(t, "size"),
			Purpose: rapid.SliceOfN(rapid.Byte(), 0, MaxPurpose).Draw(t, "purpose"),
		}
		at, ok := tailOffset(&h, tr.Size)
		if !ok {
			t.Fatalf("no offset for %d bytes", tr.Size)
		}
		b := appendTail(nil, h.Blob, &tr, at)
		size := at + int64(len(b))
		front := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "bytes before")
		got, err := parseTail(append(front, b...), size, &h)
		if err != nil || got.Size != tr.Size || !bytes.Equal(got.Purpose, tr.Purpose) {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := parseTail(b, size+1, &h); err == nil {
			t.Fatal("a file of another length was taken")
		}
		other := h
		other.Blob[3] ^= 1
		if _, err := parseTail(b, size, &other); err == nil {
			t.Fatal("another blob's trailer was taken")
		}
	})
}

// The bytes of version 1, frozen: a change of them is a new version.
func TestFrozenHeader(t *testing.T) {
	h := ShardHeader{
		Cluster: twofold.ClusterID{1, 2, 3}, Blob: twofold.MakeBlobID(4, 5), Set: twofold.SetID{Pool: 6, Set: 7},
		Index: 2, Data: 2, Parity: 1, Stripe: 1 << 20, Created: 8,
	}
	got := appendTail(appendHeader(nil, &h), h.Blob, &ShardTrailer{Size: 0, Purpose: []byte("p")}, headerLen)
	want := []byte("2FSH\x01\x00\x60\x00" + "\x01\x02\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05" + "\x06\x00\x07\x00\x02\x02\x01\x00" +
		"\x00\x00\x10\x00\x00\x00\x00\x00" + "\x08\x00\x00\x00\x00\x00\x00\x00")
	if !bytes.Equal(got[:len(want)], want) {
		t.Fatalf("%q", got[:len(want)])
	}
	if h := sum(got, 0); fmt.Sprintf("%x", h) != "cbba078c933844cea686bc960c5212e5" {
		t.Fatalf("the bytes of a shard file changed: %x", h)
	}
}

// The bytes of version 2 with those of its pieces, frozen: the shard of a blob of 3
// stripes whose blocks have a whole piece, one and a part, and a part. Those of version
// 1 are in ../repair/testdata.
func TestFrozenPieces(t *testing.T) {
	m := memfs.New()
	if err := WriteFormat(m, "/d", goodFormat()); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Options{FS: m, Path: "/d", Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	h := ShardHeader{
		Cluster: goodFormat().Cluster, Blob: twofold.MakeBlobID(4, 5), Set: twofold.SetID{Pool: 6, Set: 7},
		Index: 2, Data: 2, Parity: 1, Stripe: 2000, Piece: 600, Created: 8,
	}
	w, err := d.Create(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	const size = 2*2000 + 1000
	for i := range Blocks(h, size) {
		block := make([]byte, BlockLen(h, size, i))
		for k := range block {
			block[k] = byte(k) ^ byte(i)<<5
		}
		if err := w.WriteBlock(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(ShardTrailer{Size: size, Purpose: []byte("p")}); err != nil {
		t.Fatal(err)
	}
	name, _, _ := d.blobPath(h.Blob)
	got, err := vfs.ReadFile(m, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte("2FSH\x02\x00\x60\x00")
	if !bytes.HasPrefix(got, want) || !bytes.Equal(got[48:56], []byte("\xd0\x07\x00\x00\x58\x02\x00\x00")) {
		t.Fatalf("%q", got[:headerLen])
	}
	if want := headerLen + 2*(1000+2*16) + 500 + 16 + trailerMinLen + 1 + footerLen; len(got) != want {
		t.Fatalf("%d bytes, want %d", len(got), want)
	}
	if h := sum(got, 0); fmt.Sprintf("%x", h) != "44a0af52b9006960f8d0d60251a32f3f" {
		t.Fatalf("the bytes of a shard file changed: %x", h)
	}
}

func TestBlockOffsets(t *testing.T) {
	h := ShardHeader{Data: 3, Parity: 1, Stripe: 10}
	for _, tt := range []struct{ size, want int64 }{
		{0, 96}, {1, 96 + 17}, {9, 96 + 19}, {10, 96 + 20}, {11, 96 + 20 + 17}, {30, 96 + 60},
	} {
		if got, ok := tailOffset(&h, tt.size); !ok || got != tt.want {
			t.Errorf("%d bytes: %d, want %d", tt.size, got, tt.want)
		}
	}
	h = ShardHeader{Data: 3, Parity: 1, Stripe: 3000, Piece: 512}
	for _, tt := range []struct{ size, want int64 }{
		{0, 96}, {1, 96 + 17}, {1536, 96 + 528}, {1537, 96 + 545}, {3000, 96 + 1032}, {3001, 96 + 1032 + 17}, {9000, 96 + 3*1032},
	} {
		if got, ok := tailOffset(&h, tt.size); !ok || got != tt.want {
			t.Errorf("%d bytes in pieces: %d, want %d", tt.size, got, tt.want)
		}
	}
	for _, size := range []int64{-1, math.MaxInt64, twofold.MaxObjectLen + 1} {
		if _, ok := tailOffset(&h, size); ok {
			t.Errorf("%d bytes have an offset", size)
		}
	}
}

func goodFormat() Format {
	return Format{
		Version: FormatVersion, Cluster: twofold.ClusterID{1}, Drive: twofold.DriveID{2},
		Pool: 1, Set: 2, Index: 3, Sets: 4, SetSize: 5, Created: 6,
	}
}

// A format file with any byte changed is refused, or says the same.
func TestFormatFlips(t *testing.T) {
	want := goodFormat()
	good, err := encodeFormat(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseFormat(good); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			got, err := parseFormat(bad)
			if err == nil && got != want {
				t.Fatalf("byte %d, bit %d: %+v", i, bit, got)
			}
			if err != nil && !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.Unsupported) {
				t.Fatal(err)
			}
		}
		if got, err := parseFormat(good[:i]); err == nil && got != want {
			t.Fatalf("cut to %d bytes: %+v", i, got)
		}
	}
}

func TestReadFormat(t *testing.T) {
	good, err := encodeFormat(goodFormat())
	if err != nil {
		t.Fatal(err)
	}
	future, err := json.Marshal(map[string]any{"version": FormatVersion + 1, "anything": "else"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		dirs  []string
		kind  errs.Kind // 0: it is read
	}{
		{"fresh", nil, nil, errs.NotFound},
		{"lost+found", nil, []string{"lost+found"}, errs.NotFound},
		{"interrupted", map[string]string{"format.json.tmp": "x", "lock": ""}, nil, errs.NotFound},
		{"good", map[string]string{"format.json": string(good)}, []string{"blobs"}, 0},
		{"foreign file", map[string]string{"holiday.jpg": "x"}, nil, errs.Invalid},
		{"foreign directory", nil, []string{"home"}, errs.Invalid},
		{"format removed", nil, []string{"blobs", "tmp"}, errs.Invalid},
		{"format empty", map[string]string{"format.json": ""}, nil, errs.Corrupt},
		{"format a directory", nil, []string{"format.json"}, errs.Corrupt},
		{"format of the future", map[string]string{"format.json": string(future)}, nil, errs.Unsupported},
		{"format long", map[string]string{"format.json": string(make([]byte, maxFormat+1))}, nil, errs.Corrupt},
		{"another program's", map[string]string{"format.json": `{"version":"1","format":"xl"}`}, nil, errs.Corrupt},
	} {
		m := memfs.New()
		if _, err := ReadFormat(m, "/d"); !errs.Is(err, errs.NotFound) {
			t.Fatalf("no directory: %v", err)
		}
		if err := m.Mkdir("/d"); err != nil {
			t.Fatal(err)
		}
		for _, d := range tt.dirs {
			if err := m.Mkdir("/d/" + d); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range tt.files {
			f, err := m.Create("/d/" + name)
			if err == nil {
				_, err = f.WriteAt([]byte(content), 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		f, err := ReadFormat(m, "/d")
		if tt.kind == 0 && (err != nil || f != goodFormat()) || tt.kind != 0 && !errs.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.kind)
		}
		if tt.kind == errs.NotFound {
			continue
		}
		if err := WriteFormat(m, "/d", goodFormat()); err == nil {
			t.Errorf("%s: formatted over", tt.name)
		}
	}
}

// Walk sees every shard once, in order, when they are more than its window.
func TestWalkWindows(t *testing.T) {
	m := memfs.New()
	if err := WriteFormat(m, "/d", goodFormat()); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), Options{FS: m, Path: "/d", Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for n := range uint64(100) {
		name, dir, fan := d.blobPath(twofold.MakeBlobID(1, n*37))
		if err := d.makeFan(fan, dir); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Create("/d/blobs/00/not a shard"); err != nil {
		t.Fatal(err)
	}
	for _, window := range []int{1, 3, 50, 99, 100, 101, 1000} {
		var last twofold.BlobID
		n := 0
		err := d.walk(t.Context(), twofold.BlobID{}, window, func(b twofold.BlobID) error {
			if bytes.Compare(b[:], last[:]) <= 0 {
				t.Fatalf("%s after %s", b, last)
			}
			last = b
			n++
			return nil
		})
		if err != nil || n != 100 {
			t.Fatalf("window %d: %d shards, %v", window, n, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	h := ShardHeader{Data: 2, Parity: 2, Stripe: 1 << 20, Blob: twofold.MakeBlobID(1, 2)}
	f.Add(appendHeader(nil, &h))
	h.Piece = PieceLen
	f.Add(appendHeader(nil, &h))
	f.Add([]byte(headerMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		p = fixSum(bytes.Clone(p), 80, 0)
		h, err := parseHeader(p)
		if err != nil {
			return
		}
		if again := appendHeader(nil, &h); !bytes.Equal(again, p[:headerLen]) {
			t.Fatalf("%x is read as %x", p, again)
		}
	})
}

// fixSum puts the right hash behind the first n bytes, so that the fuzzer gets past
// it.
func fixSum(p []byte, n int, seed uint64) []byte {
	if len(p) >= n+hashLen {
		s := sum(p[:n], seed)
		copy(p[n:], s[:])
	}
	return p
}

func FuzzTail(f *testing.F) {
	h := ShardHeader{Data: 2, Parity: 2, Stripe: 1 << 20, Blob: twofold.MakeBlobID(1, 2)}
	f.Add(appendTail(nil, h.Blob, &ShardTrailer{Purpose: []byte("purpose")}, headerLen), int64(headerLen+71))
	f.Add(appendTail(nil, h.Blob, &ShardTrailer{Size: 1}, headerLen+17), int64(headerLen+17+64))
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		p = bytes.Clone(p)
		if len(p) >= trailerMinLen+footerLen && int64(len(p)) <= size {
			foot := len(p) - footerLen
			fixSum(p[:foot], foot-hashLen, blobSeed(h.Blob))
			fixSum(p[foot:], 16, blobSeed(h.Blob))
		}
		tr, err := parseTail(p, size, &h)
		if err != nil {
			return
		}
		at, _ := tailOffset(&h, tr.Size)
		if again := appendTail(nil, h.Blob, &tr, at); !bytes.HasSuffix(p, again) || at+int64(len(again)) != size {
			t.Fatalf("%x is read as %x", p, again)
		}
	})
}

func FuzzFormat(f *testing.F) {
	b, err := encodeFormat(goodFormat())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := parseFormat(p)
		if err != nil {
			return
		}
		b, err := encodeFormat(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseFormat(b); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%+v, then %+v, %v", got, again, err)
		}
	})
}
