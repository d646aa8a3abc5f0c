package fsm

import (
	"fmt"

	"twofold"
	"twofold/metadata"
)

// held are the inodes that the command under way works on: one object per inode,
// however often it is loaded, written once at the end.
type held struct {
	inode *metadata.Inode // nil: there is none, or not any more
	dirty bool

	// As it was before the command:
	bucket     twofold.BucketID
	was        share
	size       int64
	hadReserve bool
}

// load returns the command's copy of an inode; nil where there is none.
func (a *applier) load(ino twofold.Ino) (*metadata.Inode, error) {
	if h, ok := a.inodes[ino]; ok {
		return h.inode, nil
	}
	i, err := a.inode(ino)
	if err != nil {
		return nil, err
	}
	h := held{inode: i}
	if i != nil {
		h.bucket, h.was, h.size, h.hadReserve = i.Bucket, shareOf(i), i.Size, i.Reserve > 0
	}
	a.inodes[ino] = h
	return i, nil
}

func (a *applier) mustLoad(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := a.load(ino)
	if i == nil && err == nil {
		err = fmt.Errorf("inode %d is named but not there", ino)
	}
	return i, err
}

// touch marks a loaded or new inode as changed.
func (a *applier) touch(i *metadata.Inode) {
	h := a.inodes[i.Ino]
	h.inode, h.dirty, h.bucket = i, true, i.Bucket
	a.inodes[i.Ino] = h
}

// erase removes the inode.
func (a *applier) erase(ino twofold.Ino) {
	h := a.inodes[ino]
	h.inode, h.dirty = nil, true
	a.inodes[ino] = h
}

// newInode makes an inode without a name.
func (a *applier) newInode(b twofold.BucketID, t metadata.Type) (*metadata.Inode, error) {
	n := uint64(a.given)
	if a.given = 0; n == 0 {
		var err error
		if n, err = a.next(keyNextIno, uint64(twofold.FirstIno)); err != nil {
			return nil, err
		}
		if a.made == 0 {
			a.made = twofold.Ino(n)
		}
	}
	now := a.cmd.Now
	i := &metadata.Inode{Ino: twofold.Ino(n), Bucket: b, Type: t, Atime: now, Mtime: now, Ctime: now, Btime: now, Version: 1}
	if t == metadata.TypeDir {
		i.Nlink = 2
	}
	a.touch(i)
	return i, nil
}

// flush writes the changed inodes, counts and claims at the end of a command.
func (a *applier) flush() error {
	for ino, h := range a.inodes { // distinct keys: the order does not matter
		if !h.dirty {
			continue
		}
		if h.inode == nil {
			a.del(inodeKey(ino))
		} else {
			charge(h)
			a.set(inodeKey(ino), metadata.EncodeInode(h.inode))
		}
		a.noteReserve(ino, h)
		if err := a.growInode(ino, h); err != nil {
			return err
		}
	}
	if err := a.flushUsage(); err != nil {
		return err
	}
	return a.flushClaims()
}
