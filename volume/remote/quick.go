package remote

import (
	"encoding/binary"
	"math"

	"twofold"
	"twofold/cluster/rpc"
)

var _ rpc.QuickDecoder = (*readReq)(nil)

// DecodeQuick implements rpc.QuickDecoder: small reads are most of what a busy mount asks
// for, and the general decoder was a tenth of the server's share of them.
func (q *readReq) DecodeQuick(b []byte) bool {
	if len(b) == 0 || b[0]&0xe0 != 0xa0 || b[0]&0x1f > 3 { // a map of up to 3 pairs
		return false
	}
	var field [4]uint64 // by number
	pairs, last := b[0]&0x1f, byte(0)
	b = b[1:]
	for ; pairs > 0; pairs-- {
		if len(b) == 0 || b[0] <= last || b[0] > 3 { // a number, above the one before
			return false
		}
		last = b[0]
		var ok bool
		if field[last], b, ok = quickUint(b[1:]); !ok {
			return false
		}
	}
	if len(b) > 0 || field[2] > math.MaxInt64 || field[3] > math.MaxInt64 {
		return false
	}
	*q = readReq{twofold.Ino(field[1]), int64(field[2]), int(field[3])}
	return true
}

// quickUint reads an unsigned integer (RFC 8949, major type 0) and returns what follows.
func quickUint(b []byte) (uint64, []byte, bool) {
	if len(b) == 0 {
		return 0, b, false
	}
	head, rest := b[0], b[1:]
	if head < 24 {
		return uint64(head), rest, true
	}
	if head > 27 || len(rest) < 1<<(head-24) {
		return 0, b, false
	}
	var wide [8]byte
	n := 1 << (head - 24)
	copy(wide[8-n:], rest)
	return binary.BigEndian.Uint64(wide[:]), rest[n:], true
}
