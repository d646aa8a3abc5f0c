package drive

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"

	"twofold"
	"twofold/internal/errs"
)

// A shard file, all integers little-endian:
//
//	+--------+---------+---------+-----+---------+--------+
//	| header | block 0 | block 1 | ... | trailer | footer |
//	+--------+---------+---------+-----+---------+--------+
//	    96                               32 + n      32
//
//	block     +------+---------+------+---------+-----+
//	          | hash | piece 0 | hash | piece 1 | ... |
//	          +------+---------+------+---------+-----+
//	             16       P       16    P or less
//
//	header
//	  0  4  magic "2FSH"
//	  4  2  version, 2; 1 where P is zero
//	  6  2  length of the header, 96
//	  8 16  cluster
//	 24 16  blob
//	 40  2  pool
//	 42  2  set
//	 44  1  index of the shard
//	 45  1  data shards
//	 46  1  parity shards
//	 47  1  zero
//	 48  4  bytes of content in a stripe
//	 52  4  P: bytes of a piece, 512 or more; zero: the block is one piece
//	 56  8  created, nanoseconds since the Unix epoch
//	 64 16  zero
//	 80 16  hash of the 80 bytes before
//
//	block i has BlockLen bytes of data, cut into pieces: what is read is whole pieces.
//	The hash of piece j is keyed by blob, index, i and j, so that one that turns up in
//	another place, or in another blob's file, is not taken for good.
//
//	trailer
//	  0  4  magic "2FST"
//	  4  2  version, 1
//	  6  2  n: length of the purpose, at most 4,096
//	  8  8  bytes of the blob's content
//	 16  n  purpose
//	 .. 16  hash of the 16+n bytes before, keyed by the blob
//
//	footer
//	  0  4  magic "2FSF"
//	  4  4  length of the trailer
//	  8  8  offset of the trailer
//	 16 16  hash of the 16 bytes before, keyed by the blob
//
// Every hash is xxh3-128, its high half first, big-endian as xxh3 canonically is.
const (
	headerLen     = 96
	hashLen       = 16
	trailerMinLen = 32
	footerLen     = 32
	blockVersion  = 1 // of the header: a block is one piece
	pieceVersion  = 2 // of the header: a block is cut into pieces
	tailVersion   = 1

	// PieceLen is the length of the pieces that new shards are cut into, in bytes.
	// What is read of a block is a piece or more: at 16 KiB a read of 4 KiB costs
	// little more than one of 4 KiB of any file, and hashes are a 1,024th of a shard.
	PieceLen = 16 << 10
	minPiece = 512

	// MaxPurpose is the longest purpose a trailer takes, in bytes.
	MaxPurpose = 4096
	// maxTail is the most that trailer and footer are together.
	maxTail = trailerMinLen + MaxPurpose + footerLen
	// maxStripe bounds the buffers that a header read from disk can ask for.
	maxStripe = 64 << 20
	// maxShards is the most shards of a blob.
	maxShards = 32
)

const (
	headerMagic  = "2FSH"
	trailerMagic = "2FST"
	footerMagic  = "2FSF"
)

func putHash(dst []byte, h xxh3.Uint128) {
	binary.BigEndian.PutUint64(dst, h.Hi)
	binary.BigEndian.PutUint64(dst[8:], h.Lo)
}

// sum is the hash of p under a seed.
func sum(p []byte, seed uint64) (out [hashLen]byte) {
	putHash(out[:], xxh3.Hash128Seed(p, seed))
	return out
}

// blobSeed keys the hashes of the trailer and the footer.
func blobSeed(b twofold.BlobID) uint64 { return xxh3.Hash(b[:]) }

// pieceSeed keys the hash of a piece by where it belongs. That of a block in one piece
// is keyed as in version 1, which knew no others.
func pieceSeed(h *ShardHeader, block, piece int64) uint64 {
	const n = len(h.Blob) + 1 + 8
	var k [n + 4]byte
	copy(k[:], h.Blob[:])
	k[len(h.Blob)] = h.Index
	binary.LittleEndian.PutUint64(k[len(h.Blob)+1:], uint64(block))
	if h.Piece == 0 {
		return xxh3.Hash(k[:n])
	}
	binary.LittleEndian.PutUint32(k[n:], uint32(piece))
	return xxh3.Hash(k[:])
}

// checkHeader tells what is wrong with a header's values, in words.
func checkHeader(h *ShardHeader) error {
	switch {
	case h.Data == 0 || int(h.Data)+int(h.Parity) > maxShards:
		return fmt.Errorf("%d data and %d parity shards", h.Data, h.Parity)
	case h.Index >= h.Data+h.Parity:
		return fmt.Errorf("shard %d of %d", h.Index, h.Data+h.Parity)
	case h.Stripe == 0 || h.Stripe > maxStripe:
		return fmt.Errorf("a stripe of %d bytes", h.Stripe)
	case h.Piece != 0 && h.Piece < minPiece:
		return fmt.Errorf("pieces of %d bytes", h.Piece)
	}
	return nil
}

// appendHeader appends the header's 96 bytes.
func appendHeader(dst []byte, h *ShardHeader) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, headerMagic...)
	version := uint16(pieceVersion)
	if h.Piece == 0 {
		version = blockVersion
	}
	dst = le.AppendUint16(dst, version)
	dst = le.AppendUint16(dst, headerLen)
	dst = append(dst, h.Cluster[:]...)
	dst = append(dst, h.Blob[:]...)
	dst = le.AppendUint16(dst, h.Set.Pool)
	dst = le.AppendUint16(dst, h.Set.Set)
	dst = append(dst, h.Index, h.Data, h.Parity, 0)
	dst = le.AppendUint32(dst, h.Stripe)
	dst = le.AppendUint32(dst, h.Piece)
	dst = le.AppendUint64(dst, uint64(h.Created))
	dst = append(dst, make([]byte, 16)...)
	s := sum(dst[start:], 0)
	return append(dst, s[:]...)
}

// parseHeader reads the head of a shard file. The error says what is wrong with it;
// errs.Unsupported: it is whole, and of a version that this program does not know. Every
// version has the hash of the first 80 bytes behind them.
func parseHeader(p []byte) (ShardHeader, error) {
	var h ShardHeader
	le := binary.LittleEndian
	if len(p) < headerLen {
		return h, fmt.Errorf("a file of %d bytes has no shard header", len(p))
	}
	p = p[:headerLen]
	if string(p[:4]) != headerMagic {
		return h, fmt.Errorf("not a shard file")
	}
	if s := sum(p[:80], 0); !bytes.Equal(s[:], p[80:]) {
		return h, fmt.Errorf("the shard header's hash does not match")
	}
	version, n := le.Uint16(p[4:]), le.Uint16(p[6:])
	if version != blockVersion && version != pieceVersion || n != headerLen {
		return h, errs.Newf("", errs.Unsupported, "shard version %d with a header of %d bytes is not known to this program", version, n)
	}
	copy(h.Cluster[:], p[8:])
	copy(h.Blob[:], p[24:])
	h.Set = twofold.SetID{Pool: le.Uint16(p[40:]), Set: le.Uint16(p[42:])}
	h.Index, h.Data, h.Parity = p[44], p[45], p[46]
	h.Stripe = le.Uint32(p[48:])
	h.Piece = le.Uint32(p[52:])
	h.Created = twofold.Time(le.Uint64(p[56:]))
	if (version == pieceVersion) != (h.Piece != 0) {
		return h, fmt.Errorf("shard version %d with pieces of %d bytes", version, h.Piece)
	}
	if p[47] != 0 || !allZero(p[64:80]) {
		return h, fmt.Errorf("reserved bytes of the shard header are set")
	}
	return h, checkHeader(&h)
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// appendTail appends trailer and footer; at is the trailer's offset in the file.
func appendTail(dst []byte, b twofold.BlobID, t *ShardTrailer, at int64) []byte {
	le, seed, start := binary.LittleEndian, blobSeed(b), len(dst)
	dst = append(dst, trailerMagic...)
	dst = le.AppendUint16(dst, tailVersion)
	dst = le.AppendUint16(dst, uint16(len(t.Purpose)))
	dst = le.AppendUint64(dst, uint64(t.Size))
	dst = append(dst, t.Purpose...)
	s := sum(dst[start:], seed)
	dst = append(dst, s[:]...)

	foot := len(dst)
	dst = append(dst, footerMagic...)
	dst = le.AppendUint32(dst, uint32(foot-start))
	dst = le.AppendUint64(dst, uint64(at))
	s = sum(dst[foot:], seed)
	return append(dst, s[:]...)
}

// parseTail reads the trailer from the last bytes of a shard file of size bytes,
// all of the file or at least maxTail of them. It checks that the file's length is
// what header and trailer say. The purpose is a copy.
func parseTail(tail []byte, size int64, h *ShardHeader) (ShardTrailer, error) {
	var t ShardTrailer
	le, seed := binary.LittleEndian, blobSeed(h.Blob)
	if size < headerLen+trailerMinLen+footerLen || len(tail) < trailerMinLen+footerLen {
		return t, fmt.Errorf("a file of %d bytes has no shard footer", size)
	}
	foot := tail[len(tail)-footerLen:]
	if s := sum(foot[:16], seed); string(foot[:4]) != footerMagic || !bytes.Equal(s[:], foot[16:]) {
		return t, fmt.Errorf("the shard footer does not match")
	}
	n, at := int64(le.Uint32(foot[4:])), int64(le.Uint64(foot[8:]))
	if n < trailerMinLen || n > trailerMinLen+MaxPurpose || n > int64(len(tail)-footerLen) || at != size-footerLen-n {
		return t, fmt.Errorf("the shard footer points to %d bytes at %d of %d", n, at, size)
	}
	p := tail[int64(len(tail))-footerLen-n : len(tail)-footerLen]
	if s := sum(p[:n-hashLen], seed); string(p[:4]) != trailerMagic || !bytes.Equal(s[:], p[n-hashLen:]) {
		return t, fmt.Errorf("the shard trailer does not match")
	}
	if v := le.Uint16(p[4:]); v != tailVersion {
		return t, errs.Newf("", errs.Unsupported, "shard trailer version %d is not known to this program", v)
	}
	if int64(le.Uint16(p[6:])) != n-trailerMinLen {
		return t, fmt.Errorf("the shard trailer is %d bytes long, not %d", n, trailerMinLen+int64(le.Uint16(p[6:])))
	}
	t.Size = int64(le.Uint64(p[8:]))
	t.Purpose = bytes.Clone(p[16 : n-hashLen])
	if want, ok := tailOffset(h, t.Size); !ok || want != at {
		return t, fmt.Errorf("a shard of %d bytes of content ends at %d, not at %d", t.Size, want, at)
	}
	return t, nil
}

// tailOffset is where the trailer of a shard begins whose blob has size bytes; not
// ok where no file can be that long.
func tailOffset(h *ShardHeader, size int64) (int64, bool) {
	if size < 0 || size > twofold.MaxObjectLen {
		return 0, false
	}
	n := Blocks(*h, size)
	if n == 0 {
		return headerLen, true
	}
	at := blockOffset(h, n-1) + rawLen(h, BlockLen(*h, size, n-1))
	return at, at > 0
}

// blockOffset is where block i begins in the file.
func blockOffset(h *ShardHeader, i int64) int64 {
	full := (int64(h.Stripe) + int64(h.Data) - 1) / int64(h.Data)
	return headerLen + i*rawLen(h, full)
}

// rawLen is what a block of n bytes takes in the file: its pieces and their hashes.
func rawLen(h *ShardHeader, n int64) int64 {
	p := pieceLen(h, n)
	if p == 0 {
		return n
	}
	return n + (n+p-1)/p*hashLen
}

// pieceLen is the length of the pieces, but perhaps the last, of a block of n bytes.
func pieceLen(h *ShardHeader, n int64) int64 {
	if h.Piece == 0 {
		return n
	}
	return int64(h.Piece)
}

// ContentOf is how many bytes of blocks n bytes of a file have room for, about: the rest
// are hashes.
func ContentOf(n uint64) uint64 { return n / (PieceLen + hashLen) * PieceLen }
