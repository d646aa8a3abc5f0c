package fsm

import (
	"bytes"
	"cmp"
	"slices"

	"twofold"
	"twofold/metadata"
)

// Listings want the inodes of many entries at once. What was made one after the other has
// numbers one after the other, so those that are not in recent are read in the order of
// their numbers, and near ones with one cursor: a step of it costs a tenth of a get.
const (
	nearInodes = 16 // numbers further apart are not stepped over
	fewInodes  = 8  // less than so many are not worth a cursor
)

// wantedInode is one that recent did not have.
type wantedInode struct {
	ino twofold.Ino
	at  int // in what was asked for
}

// mustInodes is mustInode of many: to[i] becomes the inode inos[i]. Numbers may come
// several times; each has its own copy.
func (v *view) mustInodes(inos []twofold.Ino, to []*metadata.Inode) error {
	var wanted []wantedInode
	for at, ino := range inos {
		b, ok := v.values.kept(inodeKey(ino))
		if !ok {
			wanted = append(wanted, wantedInode{ino, at})
			continue
		}
		i, err := metadata.DecodeInode(b)
		if err != nil {
			return err
		}
		to[at] = i
	}
	slices.SortFunc(wanted, func(a, b wantedInode) int { return cmp.Compare(a.ino, b.ino) })
	if err := v.readInodes(wanted, to); err != nil {
		return err
	}
	for _, i := range to {
		v.seen(i)
	}
	return nil
}

// readInodes reads those that are wanted, in ascending order, from the store.
func (v *view) readInodes(wanted []wantedInode, to []*metadata.Inode) error {
	for len(wanted) > 0 {
		n := 1
		for n < len(wanted) && wanted[n].ino-wanted[n-1].ino <= nearInodes {
			n++
		}
		run := wanted[:n]
		wanted = wanted[n:]
		if n >= fewInodes {
			if err := v.scanInodes(run, to); err != nil {
				return err
			}
			continue
		}
		for _, w := range run {
			i, err := v.state.mustInode(w.ino)
			if err != nil {
				return err
			}
			to[w.at] = i
		}
	}
	return nil
}

// scanInodes reads a run of near inodes with a cursor. What it does not come by is read,
// and found missing, as any other.
func (v *view) scanInodes(run []wantedInode, to []*metadata.Inode) error {
	at, last := 0, inodeKey(run[len(run)-1].ino)
	err := v.scan(inodeKey(run[0].ino), after(last), func(k, b []byte) (bool, error) {
		ino := inoOf(string(k[1:]))
		for at < len(run) && run[at].ino < ino {
			at++
		}
		if at == len(run) || run[at].ino > ino {
			return at < len(run), nil
		}
		b = bytes.Clone(b)
		v.values.keep(string(k), b)
		for ; at < len(run) && run[at].ino == ino; at++ {
			i, err := metadata.DecodeInode(b)
			if err != nil {
				return false, err
			}
			to[run[at].at] = i
		}
		return at < len(run), nil
	})
	for _, w := range run {
		if err == nil && to[w.at] == nil {
			to[w.at], err = v.state.mustInode(w.ino)
		}
	}
	return err
}
