package behind

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/acl"
	"twofold/metadata"
	"twofold/volume/api"
)

// maxWrite is the most content of a file that is written behind: more is a stream, and goes
// the ordinary way.
const maxWrite = 256 << 10

// changeable waits until an inode that was made here may be changed here, and returns it; nil:
// go the ordinary way. b.mu is held, but not while it waits.
func (b *Files) changeable(ctx context.Context, ino twofold.Ino) (*inode, *dir, error) {
	for {
		in, d := b.ours(ino)
		if in == nil {
			return nil, nil, nil
		}
		if b.outside[ino] > 0 {
			if err := b.wait(ctx); err != nil {
				return nil, nil, err
			}
			continue
		}
		home, err := b.writable(ctx, d.ino)
		if home == nil || err != nil {
			return nil, nil, err
		}
		if now, d := b.ours(ino); now == in && d == home && b.outside[ino] == 0 {
			return in, home, nil
		}
	}
}

// ready is changeable for who does not wait: nil also where that would.
func (b *Files) ready(ino twofold.Ino) (*inode, *dir) {
	in, d := b.ours(ino)
	if in == nil || b.outside[ino] > 0 || b.outside[d.ino] > 0 || !d.valid || !b.alive() || b.queue.failing != nil || b.queue.full() {
		return nil, nil
	}
	return in, d
}

// setAttrHere changes attributes of an inode, or of a directory, that was made here.
func (b *Files) setAttrHere(ctx context.Context, ino twofold.Ino, s api.SetAttr) (a api.Attr, done bool, err error) {
	if s.Size != nil {
		return a, false, nil
	}
	s.Token = 0
	return b.changeAttrHere(ctx, ino, func(*api.Attr) api.SetAttr { return s })
}

// setACLHere sets an access ACL that says no more than permission bits, which is a chmod of what
// has no ACL (posix_acl_update_mode): coreutils' cp -p and install set one on each file.
func (b *Files) setACLHere(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) (done bool, err error) {
	if name != acl.AccessName || flags&^api.XattrKillSetGID != 0 {
		return false, nil
	}
	list, err := acl.Parse(value)
	if list == nil || err != nil {
		return false, nil // the volume says what is wrong with it
	}
	perm, equivalent := list.Mode()
	if in := b.inodes[ino]; !equivalent || in != nil && in.attr.Type == metadata.TypeSymlink {
		return false, nil
	}
	_, done, err = b.changeAttrHere(ctx, ino, func(a *api.Attr) api.SetAttr {
		mode := a.Mode&^rwxMask | perm
		if flags&api.XattrKillSetGID != 0 {
			mode &^= setGID
		}
		return api.SetAttr{Mode: &mode}
	})
	return done, err
}

// changeAttrHere sets what change makes of the attributes of an inode, or of a directory, that
// was made here; it is neither size nor token. b.mu is held when change is called.
func (b *Files) changeAttrHere(ctx context.Context, ino twofold.Ino, change func(*api.Attr) api.SetAttr) (a api.Attr, done bool, err error) {
	if d := b.dirs[ino]; d != nil && d.plain {
		d, err := b.writable(ctx, ino)
		if d == nil || err != nil || !d.plain {
			return a, err != nil, err
		}
		at, s := now(d.attr.Ctime), change(&d.attr)
		b.push(api.BatchOp{Now: at, SetAttr: &api.BatchSetAttr{Ino: ino, Attr: s}}, []twofold.Ino{ino}, ino)
		setAttrs(&d.attr, &s, at)
		return b.showDir(d), true, nil
	}
	in, d, err := b.changeable(ctx, ino)
	if in == nil || err != nil {
		return a, err != nil, err
	}
	at, s := now(in.attr.Ctime), change(&in.attr)
	o := b.push(api.BatchOp{Now: at, SetAttr: &api.BatchSetAttr{Ino: ino, Attr: s}}, []twofold.Ino{d.ino}, ino)
	setAttrs(&in.attr, &s, at)
	d.below = o.seq
	return b.show(in), true, nil
}

// writeHere takes what was written to a file that was made here.
func (b *Files) writeHere(ctx context.Context, ino twofold.Ino, w api.Write) (a api.Attr, done bool, err error) {
	size := 0
	for _, s := range w.Segments {
		size += len(s.Data)
	}
	if size > maxWrite || len(w.Segments) > maxSegments || len(w.Punch) > 0 {
		return a, false, nil
	}
	in, d, err := b.changeable(ctx, ino)
	if in == nil || err != nil {
		return a, err != nil, err
	}
	l := b.leases[ino]
	if l == nil || l.local == 0 || l.local != w.Token || l.recalled {
		return a, false, nil
	}
	at := now(in.attr.Ctime)
	is := &api.BatchWrite{Ino: ino, Size: w.Size, Mtime: w.Mtime, Atime: w.Atime, ETag: w.ETag, KillPriv: w.KillPriv}
	if is.Mtime == 0 {
		is.Mtime = at
	}
	for _, s := range w.Segments { // the caller goes on with its buffers
		is.Segments = append(is.Segments, api.Segment{Off: s.Off, Data: append([]byte(nil), s.Data...)})
	}
	o := b.push(api.BatchOp{Now: at, Write: is}, []twofold.Ino{d.ino}, ino)
	written(&in.attr, is, at)
	d.below = o.seq
	d.used = time.Now()
	return b.show(in), true, nil
}

// maxSegments is the most pieces of one write here.
const maxSegments = 64
