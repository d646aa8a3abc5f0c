package remote

import (
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// What a mount may ask for. A request outside of this is answered with an error
// before the volume sees it.
const (
	maxNode     = 256      // bytes of a mount's description
	maxCursor   = 64 << 10 // bytes; the volume checks what is in it
	maxEntries  = 4096     // of one listing; more are asked for
	maxXattr    = 64 << 10 // bytes of a value, XATTR_SIZE_MAX
	maxSegments = 1 << 16
	maxETag     = 128            // bytes
	maxPromise  = api.MaxPromise // bytes
	maxForget   = api.MaxForget
	maxStale    = 4 * api.MaxStale
)

// checker is a request that can tell whether it makes sense.
type checker interface{ check() error }

func bad(format string, args ...any) error {
	return errs.Newf("remote.check", errs.Invalid, format, args...)
}

func checkIno(ino twofold.Ino) error {
	if ino == 0 {
		return bad("inode 0")
	}
	return nil
}

// checkName takes one component of a path, as the kernel would give it.
func checkName(name string) error {
	switch {
	case len(name) > twofold.MaxNameLen:
		return errs.Newf("remote.check", errs.NameTooLong, "a name of %d bytes", len(name))
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return bad("%q is not a name", name)
	}
	return nil
}

func checkXattrName(name string) error {
	switch {
	case len(name) > twofold.MaxNameLen:
		return errs.Newf("remote.check", errs.NameTooLong, "an attribute name of %d bytes", len(name))
	case name == "" || strings.Contains(name, "\x00"):
		return bad("%q is not an attribute name", name)
	}
	return nil
}

func first(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r beginReq) check() error {
	if len(r.Node) > maxNode {
		return bad("a node's name of %d bytes", len(r.Node))
	}
	return nil
}

func (r forgetReq) check() error {
	if len(r.Inos) > maxForget {
		return bad("%d inodes to forget", len(r.Inos))
	}
	for _, ino := range r.Inos {
		if err := checkIno(ino); err != nil {
			return err
		}
	}
	return nil
}

func (r invalidateReq) check() error {
	n := len(r.Stale)
	for _, s := range r.Stale {
		if err := checkIno(s.Ino); err != nil {
			return err
		}
		n += len(s.Names)
	}
	if n > maxStale {
		return bad("%d inodes and names to invalidate", n)
	}
	return nil
}

func (r reserveReq) check() error {
	if r.Size < 0 || r.Slack < 0 || r.Size > twofold.MaxFileLen {
		return bad("a reserve of %d bytes, and %d", r.Size, r.Slack)
	}
	return checkIno(r.Ino)
}

func (r inoReq) check() error  { return checkIno(r.Ino) }
func (r nameReq) check() error { return first(checkIno(r.Dir), checkName(r.Name)) }
func (r linkReq) check() error {
	return first(checkIno(r.Ino), checkIno(r.Dir), checkName(r.Name))
}

func (r renameReq) check() error {
	if r.Flags&^7 != 0 {
		return bad("rename flags %#x", r.Flags)
	}
	return first(checkIno(r.OldDir), checkName(r.OldName), checkIno(r.NewDir), checkName(r.NewName))
}

func (r setAttrReq) check() error {
	switch a := r.Attr; {
	case a.Mode != nil && *a.Mode&^0o7777 != 0:
		return bad("mode %#o", *a.Mode)
	case a.Size != nil && *a.Size < 0:
		return bad("size %d", *a.Size)
	case a.Size != nil && *a.Size > twofold.MaxFileLen:
		return errs.Newf("remote.check", errs.TooLarge, "size %d", *a.Size)
	}
	return checkIno(r.Ino)
}

func (r createReq) check() error {
	c := r.Create
	switch {
	case c.Type < metadata.TypeFile || c.Type > metadata.TypeBlock:
		return bad("inode type %d", c.Type)
	case c.Mode&^0o7777 != 0:
		return bad("mode %#o", c.Mode)
	case c.Asked&^0o777 != 0:
		return bad("mode %#o asked for", c.Asked)
	case len(c.Target) >= twofold.MaxPathLen:
		return errs.Newf("remote.check", errs.NameTooLong, "a link target of %d bytes", len(c.Target))
	case (c.Type == metadata.TypeSymlink) != (c.Target != "") || strings.Contains(c.Target, "\x00"):
		return bad("link target %q for type %d", c.Target, c.Type)
	}
	return first(checkIno(r.Dir), checkName(r.Name))
}

func (r tmpfileReq) check() error {
	if r.Create.Mode&^0o7777 != 0 || r.Create.Asked&^0o777 != 0 {
		return bad("mode %#o, asked for %#o", r.Create.Mode, r.Create.Asked)
	}
	return checkIno(r.Dir)
}

func (r seekReq) check() error {
	if r.Off < 0 {
		return bad("a seek from %d", r.Off)
	}
	return checkIno(r.Ino)
}

func (r copyReq) check() error {
	c := r.Range
	if c.SrcOff < 0 || c.DstOff < 0 || c.Len < 0 {
		return bad("a copy of %d bytes at %d to %d", c.Len, c.SrcOff, c.DstOff)
	}
	if c.SrcOff > twofold.MaxFileLen || c.DstOff > twofold.MaxFileLen || c.Len > twofold.MaxFileLen {
		return errs.Newf("remote.check", errs.TooLarge, "a copy of %d bytes at %d to %d", c.Len, c.SrcOff, c.DstOff)
	}
	return first(checkIno(c.Src), checkIno(c.Dst))
}

func (r readDirReq) check() error {
	if r.Max < 1 || len(r.Cursor) > maxCursor {
		return bad("a listing of %d entries behind a cursor of %d bytes", r.Max, len(r.Cursor))
	}
	return checkIno(r.Dir)
}

func (r readReq) check() error {
	if r.Off < 0 || r.Len < 0 || r.Len > api.MaxIO {
		return bad("a read of %d bytes at %d", r.Len, r.Off)
	}
	return checkIno(r.Ino)
}

// check wants segments in order, without overlap, within a file's limits.
func (r writeReq) check() error {
	if len(r.Segments) > maxSegments || len(r.Punch) > maxSegments || len(r.ETag) > maxETag {
		return bad("a write of %d segments, %d holes, %d bytes of ETag", len(r.Segments), len(r.Punch), len(r.ETag))
	}
	if r.Size < 0 {
		return bad("size %d", r.Size)
	}
	if r.Size > twofold.MaxFileLen {
		return errs.Newf("remote.check", errs.TooLarge, "size %d", r.Size)
	}
	var end int64
	total := 0
	for _, s := range r.Segments {
		if s.Len <= 0 || s.Len > api.MaxIO-total {
			return bad("a segment of %d bytes behind %d others", s.Len, total)
		}
		if s.Off < end {
			return bad("a segment at %d behind one that ends at %d", s.Off, end)
		}
		if s.Off > twofold.MaxFileLen-int64(s.Len) {
			return errs.Newf("remote.check", errs.TooLarge, "%d bytes at %d", s.Len, s.Off)
		}
		end = s.Off + int64(s.Len)
		total += s.Len
	}
	for _, p := range r.Punch {
		if p.Off < 0 || p.Len <= 0 || p.Off > twofold.MaxFileLen-p.Len {
			return bad("a hole of %d bytes at %d", p.Len, p.Off)
		}
	}
	return checkIno(r.Ino)
}

// cut returns the segments with their bytes, which are payload's.
func (r writeReq) cut(payload []byte) ([]api.Segment, error) {
	segs, rest, err := r.take(payload)
	if err == nil && len(rest) != 0 {
		err = bad("%d bytes behind the segments", len(rest))
	}
	return segs, err
}

// take is cut that leaves the rest of payload.
func (r writeReq) take(payload []byte) (segs []api.Segment, rest []byte, err error) {
	segs = make([]api.Segment, len(r.Segments))
	for i, s := range r.Segments {
		if s.Len > len(payload) {
			return nil, nil, bad("segments are longer than the payload")
		}
		segs[i] = api.Segment{Off: s.Off, Data: payload[:s.Len:s.Len]}
		payload = payload[s.Len:]
	}
	return segs, payload, nil
}

func (r promiseReq) check() error { return checkPromise(r.Bytes) }

// checkPromise takes a number of bytes that a session asks for, or has.
func checkPromise(n int64) error {
	if n < 0 || n > maxPromise {
		return bad("a promise of %d bytes", n)
	}
	return nil
}

func (r lockReq) check() error { return first(checkIno(r.Ino), checkLock(r.Lock)) }

// checkLock takes a lock as the kernel would ask for it, or a mount has it.
func checkLock(l api.Lock) error {
	if l.Kind > api.LockFlock || l.Type > api.LockExclusive || l.Start > l.End || l.End > api.MaxLockEnd {
		return bad("a lock of kind %d and type %d, bytes %d to %d", l.Kind, l.Type, l.Start, l.End)
	}
	return nil
}

// checkHeldLocks checks the locks that a resuming mount says it has.
func checkHeldLocks(all []api.HeldLocks) error {
	for _, h := range all {
		if err := checkIno(h.Ino); err != nil {
			return err
		}
		for _, l := range h.Locks {
			if err := checkLock(l); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r returnLocksReq) check() error { return checkHeldLocks([]api.HeldLocks{r.Held}) }
func (r leaseReq) check() error       { return checkIno(r.Ino) }
func (r xattrReq) check() error       { return first(checkIno(r.Ino), checkXattrName(r.Name)) }
func (r setXattrReq) check() error {
	if r.Flags&^api.XattrKillSetGID > 2 || len(r.Value) > maxXattr {
		return bad("an attribute of %d bytes, flags %d", len(r.Value), r.Flags)
	}
	return first(checkIno(r.Ino), checkXattrName(r.Name))
}

// checkHeld checks what a resuming mount says it has.
func checkHeld(h api.Held) error {
	for _, w := range h.Writes {
		if w.Ino == 0 || w.Token == 0 {
			return bad("lease %d on inode %d", w.Token, w.Ino)
		}
	}
	for _, o := range h.Opens {
		if o.Ino == 0 || o.Count < 1 || o.Count > 1<<24 {
			return bad("%d opens of inode %d", o.Count, o.Ino)
		}
	}
	return nil
}
