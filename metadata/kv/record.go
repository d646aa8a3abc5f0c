package kv

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/zeebo/xxh3"

	"twofold/internal/errs"
)

// A value file holds bulky values, one record after the other, behind its head. The
// tree has a pointer in the place of each value. Numbers are big-endian.
//
//	head                              record
//	 0  8  "TFvals01"                  0  8  xxh3-64 of all that follows in the record,
//	 8  4  number of the file                seeded with number of the file << 32 | offset
//	12  4  zero                        8  4  k, length of the key
//	                                  12  4  v, length of the value
//	pointer                           16  k  key
//	 0  1  version, 1                 ..  v  value
//	 1  4  number of the file
//	 5  4  offset of the record
//	 9  4  v
//	13  8  the record's hash
//
// The seed keeps a record that lies in another place, or in another file, from
// passing; the key is there for the cleaner, which asks the tree whether it still
// points here (clean.go). A pointer is told from a value by Badger's user byte of the
// entry, metaPointer, so that stores which have no value files are as they were.
const (
	valueMagic     = "TFvals01"
	fileHeadLen    = 16
	recordHeadLen  = 16
	pointerLen     = 21
	pointerVersion = 1

	metaPointer byte = 1
)

// pointer says where a value is.
type pointer struct {
	file uint32
	off  uint32 // of the record
	size uint32 // bytes of the value
	hash uint64 // of the record
}

// record is the bytes that the value takes in its file.
func (p pointer) record(key []byte) int64 { return recordLen(len(key), int(p.size)) }

func recordLen(key, value int) int64 { return recordHeadLen + int64(key) + int64(value) }

func (p pointer) encode() []byte {
	b := append(make([]byte, 0, pointerLen), pointerVersion)
	b = binary.BigEndian.AppendUint32(b, p.file)
	b = binary.BigEndian.AppendUint32(b, p.off)
	b = binary.BigEndian.AppendUint32(b, p.size)
	return binary.BigEndian.AppendUint64(b, p.hash)
}

// decodePointer reads what the tree holds for a bulky value. errs.Unsupported for
// another version, errs.Corrupt for what is no pointer.
func decodePointer(b []byte) (pointer, error) {
	const op = "kv.decodePointer"
	if len(b) > 0 && b[0] > pointerVersion {
		return pointer{}, errs.Newf(op, errs.Unsupported, "a pointer of version %d, this program knows %d", b[0], pointerVersion)
	}
	if len(b) != pointerLen || b[0] != pointerVersion {
		return pointer{}, errs.Newf(op, errs.Corrupt, "%x is not a pointer to a value", b)
	}
	p := pointer{
		file: binary.BigEndian.Uint32(b[1:]), off: binary.BigEndian.Uint32(b[5:]),
		size: binary.BigEndian.Uint32(b[9:]), hash: binary.BigEndian.Uint64(b[13:]),
	}
	if p.off < fileHeadLen || p.size > MaxValueLen {
		return pointer{}, errs.Newf(op, errs.Corrupt, "a pointer to %d bytes at %d", p.size, p.off)
	}
	return p, nil
}

// appendFileHead appends a value file's head.
func appendFileHead(b []byte, file uint32) []byte {
	b = binary.BigEndian.AppendUint32(append(b, valueMagic...), file)
	return append(b, 0, 0, 0, 0)
}

// checkFileHead checks a file's first fileHeadLen bytes.
func checkFileHead(b []byte, file uint32) error {
	const op = "kv.checkFileHead"
	switch want := appendFileHead(nil, file); {
	case string(b) == string(want):
		return nil
	case len(b) == fileHeadLen && strings.HasPrefix(string(b), valueMagic[:6]) && string(b[6:8]) > valueMagic[6:]:
		return errs.Newf(op, errs.Unsupported, "a value file of version %q was written by a newer program", b[6:8])
	}
	return errs.Newf(op, errs.Corrupt, "value file %d begins with %x", file, b)
}

// appendRecord appends a value's record, which will lie at off in the file.
func appendRecord(b []byte, file uint32, off int64, key, value []byte) ([]byte, pointer) {
	at := len(b)
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	b = append(append(b, key...), value...)
	p := pointer{file: file, off: uint32(off), size: uint32(len(value)), hash: recordHash(b[at:], file, off)}
	binary.BigEndian.PutUint64(b[at:], p.hash)
	return b, p
}

func recordHash(record []byte, file uint32, off int64) uint64 {
	return xxh3.HashSeed(record[8:], uint64(file)<<32|uint64(off))
}

// recordSize is the length of the record that begins with head, at least
// recordHeadLen bytes; an error where no record has such a head.
func recordSize(head []byte) (int64, error) {
	if len(head) < recordHeadLen {
		return 0, fmt.Errorf("a record of %d bytes", len(head))
	}
	key, value := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
	if key == 0 || key > MaxKeyLen || value > MaxValueLen {
		return 0, fmt.Errorf("a record with a key of %d bytes and a value of %d", key, value)
	}
	return recordLen(int(key), int(value)), nil
}

// decodeRecord reads the record that b is, which lies at off in the file. Key and
// value are parts of b.
func decodeRecord(b []byte, file uint32, off int64) (key, value []byte, p pointer, err error) {
	size, err := recordSize(b)
	if err != nil {
		return nil, nil, p, err
	}
	if size != int64(len(b)) {
		return nil, nil, p, fmt.Errorf("a record of %d bytes in the place of one of %d", size, len(b))
	}
	p = pointer{file: file, off: uint32(off), hash: binary.BigEndian.Uint64(b)}
	if got := recordHash(b, file, off); got != p.hash {
		return nil, nil, p, fmt.Errorf("a record that does not match its hash")
	}
	n := binary.BigEndian.Uint32(b[8:])
	key, value = b[recordHeadLen:recordHeadLen+n:recordHeadLen+n], b[recordHeadLen+n:]
	p.size = uint32(len(value))
	return key, value, p, nil
}
