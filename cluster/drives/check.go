package drives

import (
	"bytes"

	"twofold"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Bounds of what one call carries.
const (
	// maxBlock is the longest block that is sent, in bytes. Stripes are 1 MiB.
	maxBlock = 8 << 20
	// maxCallBlocks is the most blocks of one mWrite.
	maxCallBlocks = 1 << 12
	// maxWrite is the most bytes of one mWrite: a buffer, or one block.
	maxWrite = maxBlock
	// maxSmall is the most content that mOpen sends along.
	maxSmall = 64 << 10
	// pageIDs is how many ids a page of a walk has at most.
	pageIDs = 16 << 10
	// maxHandles is how many handles a request may name.
	maxHandles = 1 << 14
	// maxTold is how many drives a node may have.
	maxTold = 1 << 10
	// maxWhy is the longest text of a badRequest, in bytes.
	maxWhy = 1 << 10
)

func invalid(format string, args ...any) error {
	return errs.Newf("drives", errs.Invalid, format, args...)
}

// check tells what a writeRequest with so many bytes of payload can't be.
func (q *writeRequest) check(payload int) error {
	switch {
	case (q.Seq == 0) != (q.Header != nil):
		return invalid("call %d of a shard, header: %t", q.Seq, q.Header != nil)
	case q.Writer == 0 && (q.Seq != 0 || q.Trailer == nil):
		return invalid("a shard in parts without a handle")
	case len(q.Blocks) > maxCallBlocks || payload > maxWrite:
		return invalid("%d blocks of %d bytes in a call", len(q.Blocks), payload)
	case q.Trailer != nil && (len(q.Trailer.Purpose) > drive.MaxPurpose || q.Trailer.Size < 0):
		return invalid("a trailer with %d bytes of purpose for %d bytes of content", len(q.Trailer.Purpose), q.Trailer.Size)
	}
	sum := 0
	for _, n := range q.Blocks {
		if n == 0 || n > maxBlock {
			return invalid("a block of %d bytes", n)
		}
		sum += int(n)
	}
	if sum != payload {
		return invalid("blocks of %d bytes in %d", sum, payload)
	}
	if q.Header != nil {
		h := q.Header.header()
		return checkShard(&h)
	}
	return nil
}

// checkShard tells whether shards of this header can be sent at all.
func checkShard(h *drive.ShardHeader) error {
	if err := h.Check(); err != nil {
		return err
	}
	if n := drive.BlockLen(*h, int64(h.Stripe), 0); n > maxBlock {
		return invalid("blocks of %d bytes; between nodes %d is the limit", n, maxBlock)
	}
	return nil
}

// info is what an answer to mOpen says, as far as it can be true of a blob's shard.
// payload is the number of bytes that came with it. errs.Corrupt, errs.Invalid.
func (a *openAnswer) info(b twofold.BlobID, cluster twofold.ClusterID, payload int) (drive.ShardInfo, error) {
	if a.Header == nil || a.Trailer == nil {
		return drive.ShardInfo{}, invalid("a shard without a header or a trailer")
	}
	i := drive.ShardInfo{
		Header: a.Header.header(), Bytes: a.Bytes,
		Trailer: drive.ShardTrailer{Size: a.Trailer.Size, Purpose: a.Trailer.Purpose},
	}
	h := &i.Header
	if err := checkShard(h); err != nil {
		return drive.ShardInfo{}, err
	}
	switch {
	case h.Blob != b || !cluster.IsZero() && h.Cluster != cluster:
		return drive.ShardInfo{}, errs.Newf("drives.Open", errs.Corrupt, "a shard of blob %s, cluster %s, for blob %s", h.Blob, h.Cluster, b)
	case i.Trailer.Size < 0 || i.Trailer.Size > maxContent || len(i.Trailer.Purpose) > drive.MaxPurpose:
		return drive.ShardInfo{}, invalid("a trailer with %d bytes of purpose for %d bytes of content", len(i.Trailer.Purpose), i.Trailer.Size)
	case i.Bytes < contentLen(h, i.Trailer.Size):
		return drive.ShardInfo{}, invalid("a file of %d bytes for %d bytes of content", i.Bytes, i.Trailer.Size)
	case a.All && int64(payload) != contentLen(h, i.Trailer.Size), !a.All && payload != 0:
		return drive.ShardInfo{}, invalid("%d bytes of content of a shard that has %d", payload, contentLen(h, i.Trailer.Size))
	}
	return i, nil
}

// maxContent is more than any blob has, in bytes; sums of it don't overflow.
const maxContent = 1 << 60

// contentLen is how many bytes all blocks of a shard have together.
func contentLen(h *drive.ShardHeader, size int64) int64 {
	n := drive.Blocks(*h, size)
	if n == 0 {
		return 0
	}
	return (n-1)*drive.BlockLen(*h, size, 0) + drive.BlockLen(*h, size, n-1)
}

// parsePage checks a page of ids, which ascend and are behind after, and appends them.
func parsePage(dst []twofold.BlobID, page []byte, after twofold.BlobID, more bool) ([]twofold.BlobID, error) {
	const size = len(twofold.BlobID{})
	if len(page)%size != 0 || more && len(page) == 0 {
		return nil, invalid("a page of %d bytes", len(page))
	}
	for ; len(page) > 0; page = page[size:] {
		id := twofold.BlobID(page[:size])
		if bytes.Compare(id[:], after[:]) <= 0 {
			return nil, invalid("blob %s behind blob %s", id, after)
		}
		dst = append(dst, id)
		after = id
	}
	return dst, nil
}

// check tells whether what a node tells of its drives can be true.
func (a *tellAnswer) check() error {
	if len(a.Drives) > maxTold {
		return invalid("%d drives of one node", len(a.Drives))
	}
	for i := range a.Drives {
		t := &a.Drives[i]
		if t.Drive.IsZero() || t.State < drive.Online || t.State > drive.Full {
			return invalid("drive %s in state %d", t.Drive, t.State)
		}
		if t.Usage != nil && t.Usage.Free > t.Usage.Total {
			return invalid("%d bytes free of %d", t.Usage.Free, t.Usage.Total)
		}
	}
	return nil
}

// driveError is an error of another node's drive as one of a drive here: of the kinds
// that drives have. What else there is says nothing about a shard.
func driveError(op string, err error) error {
	switch errs.KindOf(err) {
	case errs.NotFound, errs.NoSpace, errs.ReadOnly, errs.Corrupt, errs.Unavailable, errs.Invalid, errs.Other, errs.Canceled, errs.Stale:
		return err
	}
	return errs.E(op, errs.Unavailable, err)
}
