package fusefs

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twofold"
	"twofold/volume/api"
)

// TestLayer compares a layer with an array of bytes, each written or not. Buffers of
// streams have the bytes of layers before.
func TestLayer(t *testing.T) {
	var used buffers
	rapid.Check(t, func(t *rapid.T) {
		const size = 64
		var l layer
		var model [size]int // byte + 1, 0 where there is none
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			off := rapid.IntRange(0, size-1).Draw(t, "off")
			if rapid.IntRange(0, 5).Draw(t, "what") == 0 {
				var want int64
				for i := off; i < size; i++ {
					if model[i] != 0 {
						want++
					}
					model[i] = 0
				}
				if got := l.truncate(int64(off)); got != want {
					t.Fatalf("truncate to %d forgot %d bytes, want %d", off, got, want)
				}
			} else {
				b := rapid.SliceOfN(rapid.Byte(), 1, size-off).Draw(t, "bytes")
				want := 0
				for i, c := range b {
					if model[off+i] == 0 {
						want++
					}
					model[off+i] = int(c) + 1
				}
				var from *buffers
				if rapid.Bool().Draw(t, "stream") {
					from = &used
				}
				if got := l.write(int64(off), b, from); got != want {
					t.Fatalf("a write grew the layer by %d, want %d", got, want)
				}
			}
			checkLayer(t, &l, model[:])
		}
		used.give(&l)
	})
}

func checkLayer(t *rapid.T, l *layer, model []int) {
	var bytes int64
	for i, s := range l.segs {
		if len(s.Data) == 0 || i > 0 && end(l.segs[i-1]) > s.Off {
			t.Fatalf("runs are empty or overlap: %v", l.segs)
		}
		bytes += int64(len(s.Data))
	}
	if bytes != l.bytes {
		t.Fatalf("%d bytes are counted, %d are there", l.bytes, bytes)
	}
	for _, joined := range []bool{false, true} {
		view := *l
		if joined {
			view.segs = l.joined()
		}
		from := rapid.IntRange(0, len(model)).Draw(t, "from")
		to := rapid.IntRange(from, len(model)).Draw(t, "to")
		p := make([]byte, to-from)
		left := view.fill(int64(from), p, []gap{{0, len(p)}})
		hole := make([]bool, len(p))
		for _, g := range left {
			for i := g.from; i < g.to; i++ {
				hole[i] = true
			}
		}
		for i := range p {
			if m := model[from+i]; hole[i] != (m == 0) || m != 0 && int(p[i]) != m-1 {
				t.Fatalf("at %d: hole %v byte %d, want %d", from+i, hole[i], p[i], m-1)
			}
		}
	}
}

// TestDigestNeverLies: an ETag that is given is the MD5 of the whole content.
func TestDigestNeverLies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d, taken digest
		var file []byte
		version := uint64(1)
		adopt := func() {
			d.adopt(api.Attr{Version: version, Size: int64(len(file))})
			taken = d.clone()
		}
		adopt()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0: // a truncate, or somebody else
				file = file[:rapid.IntRange(0, len(file)).Draw(t, "size")]
				version++
				adopt()
			case 1: // the lease went and came back
				adopt()
			default:
				var l layer
				for range rapid.IntRange(1, 3).Draw(t, "writes") {
					off := rapid.IntRange(0, len(file)+2).Draw(t, "off")
					if rapid.Bool().Draw(t, "append") {
						off = len(file)
					}
					b := rapid.SliceOfN(rapid.Byte(), 1, 5).Draw(t, "bytes")
					if n := off + len(b); n > len(file) {
						file = append(file, make([]byte, n-len(file))...)
					}
					copy(file[off:], b)
					l.write(int64(off), b, nil)
					taken.feed(int64(off), b)
				}
				sum := md5.Sum(file)
				if taken.of(int64(len(file))) {
					if got := taken.etag(); got != hex.EncodeToString(sum[:]) {
						t.Fatalf("ETag %s of %x", got, file)
					}
					d = taken.clone()
				} else if got := d.add(l.joined(), int64(len(file))); got != "" && got != hex.EncodeToString(sum[:]) {
					t.Fatalf("ETag %s of %x", got, file)
				}
				version++
				d.version = version
				if rapid.Bool().Draw(t, "all is committed") {
					taken = d.clone()
				}
			}
		}
	})
}

// TestDigestOfAStream: what is appended is hashed as it comes, and a clone is fed on its
// own.
func TestDigestOfAStream(t *testing.T) {
	want := func(d digest, content string) {
		t.Helper()
		sum := md5.Sum([]byte(content))
		if !d.of(int64(len(content))) || d.etag() != hex.EncodeToString(sum[:]) {
			t.Fatalf("%+v is not the digest of %q", d, content)
		}
	}
	d := digest{known: true}
	d.feed(0, []byte("one"))
	first := d.clone()
	d.feed(3, []byte("two"))
	want(d, "onetwo")
	want(first, "one")
	first.feed(3, []byte("2"))
	want(first, "one2")
	want(d, "onetwo")
	if d.feed(5, []byte("x")); d.known { // over what was hashed
		t.Fatal("an overwritten file's digest is known")
	}
}

// TestTimes: what join reads split wrote, for all times there are.
func TestTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := twofold.Time(rapid.Int64Range(math.MinInt64+int64(2*time.Second), math.MaxInt64-int64(2*time.Second)).Draw(t, "t"))
		sec, nsec := split(want)
		if got := join(sec, nsec); got != want || nsec >= 1e9 {
			t.Fatalf("%d became %d.%09d and %d", want, int64(sec), nsec, got)
		}
	})
	minus := int64(-1) << 40
	if join(1<<40, 0) != math.MaxInt64 || join(uint64(minus), 0) != math.MinInt64 {
		t.Fatal("times out of range wrap around")
	}
}

// TestDirOffsets: each place in a listing has one number for as long as the
// directory is open.
func TestDirOffsets(t *testing.T) {
	d := &dir{}
	cursors := [][]byte{[]byte("a"), []byte("bb"), {}, []byte("dddd")}
	off := uint64(offDotDot)
	var offs []uint64
	for _, c := range cursors {
		off = d.offset(off, string(c))
		offs = append(offs, off)
	}
	for i, o := range offs {
		if c, ok := d.cursor(o); !ok || !bytes.Equal([]byte(c), cursors[i]) {
			t.Fatalf("offset %d is %q, %v", o, c, ok)
		}
	}
	if d.offset(offDotDot, "a") != offs[0] || d.offset(offs[0], "new") == offs[1] {
		t.Fatal("a place got a second number, or a number a second place")
	}
	if _, ok := d.cursor(1000); ok {
		t.Fatal("an offset that was never told is known")
	}
}

// TestBuffers: a few flushes' buffers are used again, and are empty; smaller ones are not
// kept, and none when nobody streams.
func TestBuffers(t *testing.T) {
	var b buffers
	var layers [keptBuffers + 1]layer
	for i := range layers {
		layers[i].write(0, []byte("old bytes"), &b)
	}
	was := &layers[keptBuffers-1].segs[0].Data[0]
	for i := range layers {
		b.give(&layers[i])
	}
	if len(b.free) != keptBuffers {
		t.Errorf("%d are kept", len(b.free))
	}
	got := b.take()
	if len(got) != 0 || cap(got) != api.MaxIO || &got[:1][0] != was {
		t.Errorf("a buffer of %d bytes, room for %d", len(got), cap(got))
	}
	var l layer
	l.write(0, []byte("few bytes"), nil)
	if b.give(&l); l.segs[0].Data == nil || len(b.free) != keptBuffers-1 {
		t.Error("a small buffer is kept")
	}
	b.rest(b.last.Add(keptFor))
	if len(b.free) != keptBuffers-1 {
		t.Error("it is let go too early")
	}
	if b.rest(b.last.Add(keptFor + 1)); b.free != nil {
		t.Error("it is kept for ever")
	}
}
