// Package drive is one drive: a directory on one file system that stores shards of
// blobs, each a self-describing file whose blocks carry a hash for every piece. The engine
// sees drives through the Drive interface; a local directory, and a drive of another
// node (cluster/drives), implement it and pass the same conformance suite.
package drive

import (
	"context"

	"twofold"
	"twofold/internal/errs"
)

// State is what a drive can do now. The whole program shares it.
type State uint8

const (
	Online  State = 1 // reads and writes
	Suspect State = 2 // slow or erring: not chosen while others will do
	Offline State = 3 // gone, dead, or not the drive it was
	Healing State = 4 // writes; still being refilled, reads may miss
	Full    State = 5 // reads and deletes; below its reserve of free space
)

// ShardHeader describes a shard; it is the head of its file. With it, and nothing
// else, a blob can be read back from its shards.
type ShardHeader struct {
	Cluster twofold.ClusterID
	Blob    twofold.BlobID
	Set     twofold.SetID
	Index   uint8 // position of the shard: 0..Data+Parity-1, data first
	Data    uint8
	Parity  uint8
	Stripe  uint32 // bytes of content in a full stripe
	Piece   uint32 // bytes of a block that have a hash of their own, PieceLen in new shards; 0: the whole block
	Created twofold.Time
}

// ShardTrailer is the foot of the file, written at Commit.
type ShardTrailer struct {
	Size    int64  // bytes of the blob's content
	Purpose []byte // what the blob was written for (CBOR, opaque here), at most 4 KiB, for salvage
}

// ShardInfo is what Stat and Walk tell of a committed shard.
type ShardInfo struct {
	Header  ShardHeader
	Trailer ShardTrailer
	Bytes   int64 // bytes of the file
}

// Usage is a file system's space, in bytes.
type Usage struct {
	Total uint64
	Free  uint64 // available to this process
}

// Drive stores shards. At most one shard of a blob is on a drive. All methods are
// safe for concurrent use and return *errs.Error: NotFound, NoSpace, ReadOnly,
// Corrupt (a hash or a record does not match), Unavailable (the drive is offline or
// did not answer before its deadline), Invalid.
type Drive interface {
	ID() twofold.DriveID
	// String is the path, for people.
	String() string
	State() State

	// Create starts a shard. Nothing is found under the blob's id until Commit. An
	// existing shard of the blob is replaced at Commit (repair does that).
	Create(ctx context.Context, h ShardHeader) (ShardWriter, error)
	// Open reads the header and trailer and checks them. The shard stays readable
	// through the reader after a Delete.
	Open(ctx context.Context, b twofold.BlobID) (ShardReader, error)
	// Stat is Open without a reader.
	Stat(ctx context.Context, b twofold.BlobID) (ShardInfo, error)
	// Delete removes the shard; that there is none is a success. It is durable in
	// time, not at return: a shard that comes back after a power cut is garbage
	// that collection finds again.
	Delete(ctx context.Context, b twofold.BlobID) error
	// Walk calls fn for the id of every committed shard, in ascending order from
	// the first id > after, until fn returns an error, which it returns. Shards
	// that come or go meanwhile may or may not be seen.
	Walk(ctx context.Context, after twofold.BlobID, fn func(twofold.BlobID) error) error
	Usage(ctx context.Context) (Usage, error)
}

// ShardWriter writes one shard, block by block. Not safe for concurrent use.
type ShardWriter interface {
	// WriteBlock appends a block: the hashes are computed here. It does not keep p.
	// Every block but the last of a blob has the same length.
	WriteBlock(p []byte) error
	// Commit writes the trailer and makes the shard durable: file and directory
	// are fsynced, and the drive still has its identity, when it returns nil.
	Commit(t ShardTrailer) error
	// Abort discards; after Commit it does nothing.
	Abort() error
}

// ShardReader reads a committed shard. Everything that it returns was verified. Safe for
// concurrent use.
type ShardReader interface {
	Info() ShardInfo
	// ReadBlocks reads n blocks from block first into p, which has room for them
	// (BlockLen bytes each, the last one of the blob maybe less), verifies the
	// hashes, and returns the bytes read. errs.Corrupt names a bad block.
	ReadBlocks(ctx context.Context, first, n int64, p []byte) (int, error)
	// LendBlock reads bytes [from, to) of block i, and of the block around them no more
	// than the pieces that they are in (ShardHeader.Piece). It lends memory of its own,
	// which spares its caller a buffer and a copy: the caller does not write to p, and
	// calls release once when it is done with it. After an error release is nil.
	LendBlock(ctx context.Context, i int64, from, to int) (p []byte, release func(), err error)
	// ReadNow fills p with the bytes of block i that begin at from, if all of them can
	// be had without waiting for a disk. Where it reports false, for whatever reason,
	// p holds anything, and LendBlock tells.
	ReadNow(i int64, from int, p []byte) bool
	Close() error
}

// Check reports, as errs.Invalid, a header that no shard has: what comes from another
// node, or from a disk, may be anything.
func (h *ShardHeader) Check() error {
	if err := checkHeader(h); err != nil {
		return errs.E("drive.ShardHeader", errs.Invalid, err)
	}
	return nil
}

// BlockLen is the length of the block a shard has of stripe i: the stripe's bytes
// of content divided by the number of data shards, rounded up. 0 behind the end.
func BlockLen(h ShardHeader, size, i int64) int64 {
	start := i * int64(h.Stripe)
	if start >= size || h.Data == 0 {
		return 0
	}
	n := min(size-start, int64(h.Stripe))
	return (n + int64(h.Data) - 1) / int64(h.Data)
}

// Blocks is the number of stripes, and so of blocks in each shard.
func Blocks(h ShardHeader, size int64) int64 {
	if h.Stripe == 0 {
		return 0
	}
	return (size + int64(h.Stripe) - 1) / int64(h.Stripe)
}
