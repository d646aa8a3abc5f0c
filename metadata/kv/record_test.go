package kv

import (
	"bytes"
	"encoding/hex"
	"testing"

	"twofold/internal/errs"
)

// TestFrozenRecord holds the bytes of version 1.
func TestFrozenRecord(t *testing.T) {
	b := appendFileHead(nil, 7)
	b, p := appendRecord(b, 7, int64(len(b)), []byte("key"), []byte("value"))
	const file = "544676616c73303100000007000000009e5a2d4fe8aba32200000003000000056b657976616c7565"
	const ptr = "010000000700000010000000059e5a2d4fe8aba322"
	if got := hex.EncodeToString(b); got != file {
		t.Errorf("file %s", got)
	}
	if got := hex.EncodeToString(p.encode()); got != ptr {
		t.Errorf("pointer %s", got)
	}
	if err := checkFileHead(b[:fileHeadLen], 7); err != nil {
		t.Error(err)
	}
	if err := checkFileHead(b[:fileHeadLen], 8); !errs.Is(err, errs.Corrupt) {
		t.Errorf("another file: %v", err)
	}
	b[7]++
	if err := checkFileHead(b[:fileHeadLen], 7); !errs.Is(err, errs.Unsupported) {
		t.Errorf("a newer file: %v", err)
	}
	newer := p.encode()
	newer[0]++
	if _, err := decodePointer(newer); !errs.Is(err, errs.Unsupported) {
		t.Errorf("a newer pointer: %v", err)
	}
}

// TestRecordPlace: a record passes in its own place alone.
func TestRecordPlace(t *testing.T) {
	b, p := appendRecord(nil, 3, 100, []byte("k"), []byte("v"))
	if k, v, q, err := decodeRecord(b, 3, 100); err != nil || q != p || string(k) != "k" || string(v) != "v" {
		t.Errorf("%s %s %+v %v", k, v, q, err)
	}
	for _, place := range [][2]int64{{4, 100}, {3, 101}} {
		if _, _, _, err := decodeRecord(b, uint32(place[0]), place[1]); err == nil {
			t.Errorf("it passes in %v", place)
		}
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if _, _, _, err := decodeRecord(c, 3, 100); err == nil {
			t.Errorf("byte %d is not looked at", i)
		}
	}
}

func FuzzPointer(f *testing.F) {
	f.Add(pointer{1, fileHeadLen, 5, 6}.encode())
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePointer(b)
		if err == nil && !bytes.Equal(p.encode(), b) {
			t.Errorf("%x is %+v is %x", b, p, p.encode())
		}
	})
}

func FuzzRecord(f *testing.F) {
	good, _ := appendRecord(nil, 1, fileHeadLen, []byte("key"), []byte("value"))
	f.Add(good, uint32(1), int64(fileHeadLen))
	f.Add(good[:10], uint32(1), int64(fileHeadLen))
	f.Fuzz(func(t *testing.T, b []byte, file uint32, off int64) {
		off &= 1<<32 - 1
		key, value, p, err := decodeRecord(b, file, off)
		if err != nil {
			return
		}
		again, q := appendRecord(nil, file, off, key, value)
		if !bytes.Equal(again, b) || p != q {
			t.Errorf("%x is %x", b, again)
		}
	})
}
