package fsm

import (
	"fmt"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// claims are the changes of live bytes that the command under way makes. They are
// summed up and written at its end, so that a blob which is taken from one extent
// and given to another is never without a claim in between.
type claims struct {
	index  map[string]int
	deltas []delta
	known  map[twofold.BlobID]struct{} // blobs that the command may refer to
}

type delta struct {
	key   string // of the claim
	blob  twofold.Blob
	bytes int64
}

func (c *claims) reset() {
	clear(c.index)
	clear(c.known)
	c.deltas = c.deltas[:0]
}

// add notes that the claim of that key has n more live bytes of the blob.
func (c *claims) add(key string, blob *twofold.Blob, n int64) {
	if c.index == nil {
		c.index = map[string]int{}
	}
	i, ok := c.index[key]
	if !ok {
		i = len(c.deltas)
		c.index[key] = i
		c.deltas = append(c.deltas, delta{key: key, blob: *blob})
	}
	c.deltas[i].bytes += n
}

// claimExtent notes an extent that an inode gains (sign 1) or loses (sign -1).
func (a *applier) claimExtent(ino twofold.Ino, e *metadata.Extent, sign int64) {
	if e.Blob != nil {
		a.claims.add(inodeClaim(e.Blob.ID, ino), e.Blob, sign*e.Len)
	}
}

// mayRefer refuses a blob from a command that may be gone: one of the writer that
// was given up already, or one of somebody else that nothing refers to now.
func (a *applier) mayRefer(b *twofold.Blob) error {
	if _, ok := a.claims.known[b.ID]; ok {
		return nil
	}
	gone := false
	if w := a.cmd.Writer; w != 0 && b.ID.Session() == w {
		v, err := a.get(trashKey(b.ID))
		if err != nil {
			return err
		}
		gone = v != nil
	} else {
		used, err := a.referred(b.ID)
		if err != nil {
			return err
		}
		gone = !used
	}
	if gone {
		return refusef(errs.Conflict, "blob %v is not referred to any more", b.ID)
	}
	if a.claims.known == nil {
		a.claims.known = map[twofold.BlobID]struct{}{}
	}
	a.claims.known[b.ID] = struct{}{}
	return nil
}

// referred reports whether a blob has a claim.
func (s state) referred(b twofold.BlobID) (bool, error) {
	prefix, used := id16(pClaim, b), false
	err := s.scan(prefix, prefixEnd(prefix), func(_, _ []byte) (bool, error) {
		used = true
		return false, nil
	})
	return used, err
}

// flushClaims writes the claims that changed, and looks at the blobs that lost some.
func (a *applier) flushClaims() error {
	for _, d := range a.claims.deltas {
		if d.bytes == 0 {
			continue
		}
		n, err := a.number(d.key)
		if err != nil {
			return err
		}
		now := int64(n) + d.bytes
		switch {
		case now < 0:
			return fmt.Errorf("blob %v: %d live bytes of %d released", d.blob.ID, -d.bytes, n)
		case now == 0:
			a.del(d.key)
		default:
			a.set(d.key, be64(nil, uint64(now)))
		}
	}
	var looked map[twofold.BlobID]struct{} // in a batch many may have had a piece of one blob
	for _, d := range a.claims.deltas {
		if d.bytes > 0 || d.bytes == 0 && !a.batched {
			continue
		}
		if a.batched {
			if _, ok := looked[d.blob.ID]; ok {
				continue
			}
			if looked == nil {
				looked = map[twofold.BlobID]struct{}{}
			}
			looked[d.blob.ID] = struct{}{}
		}
		if err := a.shrunk(d.blob); err != nil {
			return err
		}
	}
	return nil
}

// shrunk looks at a blob that has lost live bytes. With none left it goes into the
// trash; with less than half of it left, its files are marked for compaction.
func (a *applier) shrunk(b twofold.Blob) error {
	live, inos, err := a.liveBytes(b)
	if err != nil {
		return err
	}
	if live > 0 {
		for _, ino := range inos {
			a.markCompaction(ino)
		}
		return nil
	}
	v, err := metadata.EncodeTrashBlob(&metadata.TrashBlob{Blob: b, Since: a.cmd.Now})
	if err != nil {
		return err
	}
	a.set(trashKey(b.ID), v)
	return nil
}
