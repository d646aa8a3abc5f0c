package remote

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"twofold"
	"twofold/cluster/rpc"
)

// What is read quickly is what the general decoder reads, of whatever bytes; and what the
// mount sends is read quickly.
func TestQuickDecoder(t *testing.T) {
	codec, err := rpc.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	number := rapid.OneOf(rapid.Int64Range(0, 30), rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, math.MaxInt64))
	quick := 0
	rapid.Check(t, func(t *rapid.T) {
		sent := readReq{twofold.Ino(number.Draw(t, "ino")), number.Draw(t, "off"), int(number.Draw(t, "len"))}
		b, err := codec.Encode(sent)
		if err != nil {
			t.Fatal(err)
		}
		var got readReq
		if !got.DecodeQuick(b) || got != sent {
			t.Fatalf("%x: %+v, want %+v", b, got, sent)
		}
		if rapid.Bool().Draw(t, "any") {
			b = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes")
		} else if b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte"); rapid.Bool().Draw(t, "cut") {
			b = b[:rapid.IntRange(0, len(b)).Draw(t, "length")]
		}
		before := readReq{7, 8, 9}
		got = before
		if !got.DecodeQuick(b) {
			if got != before {
				t.Fatalf("%x was not read, and has changed %+v", b, got)
			}
			return
		}
		quick++
		var want readReq
		if err := codec.Decode(b, &want); err != nil || got != want {
			t.Fatalf("%x: %+v, the general decoder has %+v, %v", b, got, want, err)
		}
	})
	if quick == 0 {
		t.Error("nothing that was changed was read: the test looks at nothing")
	}
}
