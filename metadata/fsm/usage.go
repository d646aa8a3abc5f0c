package fsm

import (
	"encoding/binary"
	"fmt"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// How much is in a bucket is counted by the commands that change it, in the same
// write, so that the count is exact at every moment and costs nothing to ask for. What
// counts is logical size, as S3 shows it:
//
//   - an inode's Size, once, however many links it has; holes count;
//   - parts of uploads that are in progress;
//   - what a file may grow to without asking again (Inode.Reserve), beyond its size.
//
// An inode that has lost its last name does not count, so that what is deleted, or
// replaced, makes room at once; unless it grows from then on (Charged), or never had a
// name (Unnamed): programs use such files as space.
//
// Nothing is counted until somebody asks (CountUsage). Then commands walk the inodes
// and the parts, each a bounded piece, and "m usage" says how far they got: what is
// behind that is counted by whoever changes it, what is before it will be found by the
// walk. So a store without quotas pays nothing, one of an older program needs no
// upgrade, and no start takes longer.

// progress is how far the walk is.
type progress struct {
	phase byte
	last  string // the key that was counted last
}

const (
	countNothing = 0
	countInodes  = 1 // those up to last are counted
	countParts   = 2 // all inodes, and parts up to last
	countAll     = 3
)

// counts reports whether what is at the key of an inode or a part is counted by now.
func (p progress) counts(key string) bool {
	if key[0] == pInode {
		return p.phase > countInodes || p.phase == countInodes && key <= p.last
	}
	return p.phase > countParts || p.phase == countParts && key <= p.last
}

// progress reads how far the walk is.
func (s state) progress() (p progress, err error) {
	v, err := s.get(keyUsage)
	if err != nil || len(v) == 0 {
		return p, err
	}
	return progress{v[0], string(v[1:])}, nil
}

// share is what an inode or a part has in its bucket's count.
type share struct{ used, reserved int64 }

func (s share) minus(o share) share { return share{s.used - o.used, s.reserved - o.reserved} }

// shareOf is an inode's; nil has none.
func shareOf(i *metadata.Inode) (s share) {
	if i == nil {
		return s
	}
	if i.Nlink > 0 || i.Unnamed || i.Charged {
		s.used = i.Size
	}
	s.reserved = max(0, i.Reserve-s.used)
	return s
}

// charge has an inode without a name count if the command makes it larger.
func charge(h held) {
	if i := h.inode; i.Nlink == 0 && !i.Unnamed && i.Type == metadata.TypeFile && i.Size > h.size {
		i.Charged = true
	}
}

// grow notes that the command under way changes a bucket's count.
func (a *applier) grow(b twofold.BucketID, s share) {
	if s == (share{}) {
		return
	}
	if a.growth == nil {
		a.growth = map[twofold.BucketID]share{}
	}
	g := a.growth[b]
	a.growth[b] = share{g.used + s.used, g.reserved + s.reserved}
}

// growInode notes what an inode gains or loses.
func (a *applier) growInode(ino twofold.Ino, h held) error {
	by := shareOf(h.inode).minus(h.was)
	if by == (share{}) {
		return nil
	}
	p, err := a.progress()
	if err == nil && p.counts(inodeKey(ino)) {
		a.grow(h.bucket, by)
	}
	return err
}

// growPart notes what an upload gains or loses with a part.
func (a *applier) growPart(u *metadata.Upload, number int, by int64) error {
	if by == 0 {
		return nil
	}
	p, err := a.progress()
	if err == nil && p.counts(partKey(u.ID, number)) {
		a.grow(u.Bucket, share{used: by})
	}
	return err
}

// usage reads a bucket's count. there is false for a bucket that is not there (any
// more): inodes without names may outlive it, and belong to nobody.
func (s state) usage(b twofold.BucketID) (u metadata.Usage, there bool, err error) {
	v, err := s.get(usageKey(b))
	if err != nil {
		return u, false, err
	}
	if v != nil {
		u, err = metadata.DecodeUsage(v)
		return u, err == nil, err
	}
	v, err = s.get(bucketIDKey(b))
	return u, v != nil, err
}

// flushUsage writes the counts that changed. errs.Quota, and the command has no effect,
// where it adds to a bucket that would be beyond its limit.
func (a *applier) flushUsage() error {
	for b, by := range a.growth { // distinct keys: the order does not matter
		if by == (share{}) {
			continue
		}
		u, there, err := a.usage(b)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		// Less than nothing would be a mistake of ours, which Check finds. It is no
		// reason to stop the store.
		u.Used, u.Reserved = max(0, u.Used+by.used), max(0, u.Reserved+by.reserved)
		if u.Limit > 0 && by.used+by.reserved > 0 && u.Used+u.Reserved > u.Limit && !a.unbounded {
			return refusef(errs.Quota, "the bucket's quota of %d bytes is used up", u.Limit)
		}
		a.set(usageKey(b), metadata.EncodeUsage(&u))
	}
	return nil
}

// countUsage goes on with the walk.
func (a *applier) countUsage(c *metadata.CountUsage) (*metadata.Result, error) {
	p, err := a.progress()
	if err != nil {
		return nil, err
	}
	limit := c.Max
	if limit <= 0 || limit > maxCount {
		limit = maxCount
	}
	a.unbounded = true
	switch p.phase {
	case countNothing:
		p.phase = countInodes
		err = a.countInodes(&p, limit)
	case countInodes:
		err = a.countInodes(&p, limit)
	case countParts:
		err = a.countParts(&p, limit)
	}
	if err != nil {
		return nil, err
	}
	a.set(keyUsage, append([]byte{p.phase}, p.last...))
	return &metadata.Result{More: p.phase != countAll}, nil
}

func (a *applier) countInodes(p *progress, limit int) error {
	prefix, n := string(rune(pInode)), 0
	err := a.scan(max(prefix, after(p.last)), prefixEnd(prefix), func(k, v []byte) (bool, error) {
		i, err := metadata.DecodeInode(v)
		if err != nil {
			return false, err
		}
		a.grow(i.Bucket, shareOf(i))
		p.last = string(k)
		n++
		return n < limit, nil
	})
	if n < limit {
		p.phase, p.last = countParts, ""
	}
	return err
}

func (a *applier) countParts(p *progress, limit int) error {
	prefix, n := string(rune(pPart)), 0
	uploads := map[twofold.UploadID]int64{}
	err := a.scan(max(prefix, after(p.last)), prefixEnd(prefix), func(k, v []byte) (bool, error) {
		if len(k) != len(partKey(twofold.UploadID{}, 0)) {
			return false, errNumber
		}
		part, err := metadata.DecodePart(v)
		if err != nil {
			return false, err
		}
		uploads[twofold.UploadID(k[1:17])] += part.Size
		p.last = string(k)
		n++
		return n < limit, nil
	})
	if err != nil {
		return err
	}
	for id, size := range uploads { // sums: the order does not matter
		u, err := a.upload(id)
		if err != nil {
			return err
		}
		if u == nil {
			return fmt.Errorf("upload %v has parts and is not there", id)
		}
		a.grow(u.Bucket, share{used: size})
	}
	if n < limit {
		p.phase, p.last = countAll, ""
	}
	return nil
}

func (a *applier) setQuota(c *metadata.SetQuota) (*metadata.Result, error) {
	if c.Limit < 0 {
		return nil, refusef(errs.Invalid, "a quota of %d bytes", c.Limit)
	}
	b, err := a.bucket(c.Bucket)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, refuse(errs.NoBucket)
	}
	p, err := a.progress()
	if err != nil {
		return nil, err
	}
	if p.phase != countAll {
		return nil, refusef(errs.Busy, "what is in the store has not been counted yet")
	}
	u, _, err := a.usage(b.ID)
	if err != nil {
		return nil, err
	}
	u.Limit = c.Limit
	a.set(usageKey(b.ID), metadata.EncodeUsage(&u))
	return &metadata.Result{Bucket: b}, nil
}

// reserve lets a file grow. It gives more than was asked for while there is much left,
// so that a writer does not come for each piece, and exactly what was asked for near
// the end.
func (a *applier) reserve(c *metadata.Reserve) (*metadata.Result, error) {
	i, err := a.mustBe(c.Ino)
	if err != nil {
		return nil, err
	}
	if i.Type != metadata.TypeFile || c.Size < 0 || c.Size > maxFileLen || c.Slack < 0 {
		return nil, refuse(errs.Invalid)
	}
	u, there, err := a.usage(i.Bucket)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Size == 0 || !there || u.Limit == 0:
		if i.Reserve != 0 {
			i.Reserve = 0
			a.touch(i)
		}
		return &metadata.Result{Inode: i, ID: uint64(maxFileLen)}, nil
	case c.Size > i.Reserve:
		has := shareOf(i)
		need := max(0, c.Size-has.used-has.reserved)
		free := u.Limit - u.Used - u.Reserved
		if need > 0 && need > free {
			return nil, refusef(errs.Quota, "the bucket's quota of %d bytes is used up", u.Limit)
		}
		i.Reserve = c.Size + min(c.Slack, max(0, free-need)/4, maxFileLen-c.Size)
		a.touch(i)
	}
	return &metadata.Result{Inode: i, ID: uint64(i.Reserve)}, nil
}

// noteReserve keeps the list of the inodes that have a reserve.
func (a *applier) noteReserve(ino twofold.Ino, h held) {
	switch has := h.inode != nil && h.inode.Reserve > 0; {
	case has && !h.hadReserve:
		a.set(reserveKey(ino), []byte{})
	case !has && h.hadReserve:
		a.del(reserveKey(ino))
	}
}

// Usage implements metadata.View.
func (v *view) Usage(b twofold.BucketID) (u metadata.Usage, counted bool, err error) {
	p, err := v.progress()
	if err != nil || p.phase != countAll {
		return u, false, err
	}
	u, _, err = v.usage(b)
	return u, true, err
}

// Reserved implements metadata.View.
func (v *view) Reserved(last twofold.Ino, max int) (all []twofold.Ino, err error) {
	err = v.prefixed(string(rune(pReserve)), after(reserveKey(last)), func(k, _ []byte) (bool, error) {
		if len(k) != 9 {
			return false, errNumber
		}
		all = append(all, twofold.Ino(binary.BigEndian.Uint64(k[1:])))
		return len(all) != max, nil
	})
	return all, err
}
