package erasure

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"twofold/internal/errs"
)

func fill(p []byte, seed uint64) {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	r.Read(p)
}

// TestReconstructFromAnyK: whichever blocks are lost, as long as k are left, the
// wanted ones come back and no other byte changes.
func TestReconstructFromAnyK(t *testing.T) {
	var pool Pool
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, MaxShards).Draw(t, "k")
		m := rapid.IntRange(0, min(MaxParity, MaxShards-k)).Draw(t, "m")
		n := rapid.OneOf(rapid.IntRange(1, 200), rapid.IntRange(1, 70000), rapid.Just(StripeSize)).Draw(t, "n")
		c, err := New(k, m)
		if err != nil {
			t.Fatal(err)
		}
		s := pool.Full(c, StripeSize)
		defer s.Release()
		s.Truncate(c, n)
		content := make([]byte, n)
		fill(content, rapid.Uint64().Draw(t, "seed"))
		copy(s.Content(), content)
		if err := c.Encode(s); err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Verify(s); !ok || err != nil {
			t.Fatalf("Verify = %v, %v", ok, err)
		}
		want := append([]byte(nil), s.buf[:(k+m)*s.blockLen]...)

		perm := rapid.Permutation(seq(k+m)).Draw(t, "order")
		lost := rapid.IntRange(0, k+m).Draw(t, "lost")
		have := Span(0, k+m)
		for _, i := range perm[:lost] {
			have = have.Without(i)
			clear(s.Block(i))
		}
		wanted := Set(rapid.Uint32().Draw(t, "wanted")) & Span(0, k+m)
		err = c.Reconstruct(s, have, wanted)
		if lost > m && wanted&^have != 0 {
			if !errs.Is(err, errs.ReadQuorum) {
				t.Fatalf("%d of %d+%d lost: %v", lost, k, m, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range k + m {
			expect := want[i*s.blockLen : (i+1)*s.blockLen]
			if !have.Has(i) && !wanted.Has(i) {
				expect = make([]byte, s.blockLen)
			}
			if !bytes.Equal(s.Block(i), expect) {
				t.Fatalf("block %d differs", i)
			}
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestVerifyFindsAFlippedByte(t *testing.T) {
	var pool Pool
	c, err := New(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := pool.Full(c, 1000)
	defer s.Release()
	fill(s.Content(), 1)
	if err := c.Encode(s); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.Block(i)[i] ^= 1
		if ok, err := c.Verify(s); ok || err != nil {
			t.Errorf("a flip in block %d: Verify = %v, %v", i, ok, err)
		}
		s.Block(i)[i] ^= 1
	}
}

// TestFormatIsFrozen: parity is on drives; a library that coded otherwise would
// make them unreadable.
func TestFormatIsFrozen(t *testing.T) {
	var pool Pool
	for _, tc := range []struct {
		k, m int
		want string
	}{
		{1, 1, "9b3651c2bd5d83494547c0319238e53b"},
		{2, 1, "634787456ce89136d9899d823098eb65"},
		{2, 2, "d3bb67c5661ff9fa71aa4eca3789d352"},
		{3, 2, "0adcc551fbc56607ca5f576bd51e40ae"},
		{4, 4, "e00bf64d51f55a8bc051e632b1503f4c"},
		{8, 4, "67ed29792aefb51f376a383f550b6bfd"},
		{12, 4, "c3b6c842516f21f5951ef8ade1200916"},
	} {
		c, err := New(tc.k, tc.m)
		if err != nil {
			t.Fatal(err)
		}
		s := pool.Full(c, 1001)
		for i := range s.Content() {
			s.Content()[i] = byte(i * i >> 3)
		}
		if err := c.Encode(s); err != nil {
			t.Fatal(err)
		}
		sum := xxh3.Hash128(s.buf[:(tc.k+tc.m)*s.blockLen]).Bytes()
		if got := hex.EncodeToString(sum[:]); got != tc.want {
			t.Errorf("{%d, %d, %q},", tc.k, tc.m, got)
		}
		s.Release()
	}
}

func TestInvalid(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {0, 2}, {-1, 1}, {1, -1}, {16, 1}, {9, 8}, {7, 9}} {
		if _, err := New(c[0], c[1]); !errs.Is(err, errs.Invalid) {
			t.Errorf("New(%d, %d): %v", c[0], c[1], err)
		}
	}
}

// TestPoolKeepsWhatIsInUse: a stripe that is still referred to is not handed out.
func TestPoolKeepsWhatIsInUse(t *testing.T) {
	var pool Pool
	c, _ := New(2, 2)
	a := pool.Full(c, StripeSize)
	a.Retain()
	a.Release()
	b := pool.Full(c, StripeSize)
	if &a.buf[0] == &b.buf[0] {
		t.Fatal("handed out twice")
	}
	a.Release()
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("a double release went unnoticed")
		}
	}()
	b.Release()
}

func BenchmarkEncode(b *testing.B) {
	for _, km := range [][2]int{{1, 1}, {2, 2}, {4, 4}, {8, 4}, {12, 4}} {
		c, err := New(km[0], km[1])
		if err != nil {
			b.Fatal(err)
		}
		var pool Pool
		s := pool.Full(c, StripeSize)
		fill(s.Content(), 1)
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(StripeSize)
			for b.Loop() {
				if err := c.Encode(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
