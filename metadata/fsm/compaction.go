package fsm

import (
	"encoding/binary"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Which files compaction should look at is part of the state, so that no restart
// forgets one. A file is marked
//
//   - when a write or a copied range adds to what it has: many small extents make it
//     slow to read;
//   - when a write, a copy or the parts of an upload make all of it, and that are many
//     extents in few bytes: how many, the command says;
//   - when a blob that it refers to has less than half of its bytes alive, all files
//     together: until somebody rewrites what is left, the blob keeps all its space.
//
// A mark has the name of the command that made it. Compaction looks at a file, and
// then takes exactly the mark that was there before it looked.

// markedMost is how many files of one blob are marked at once. When they have been
// compacted, the blob has lost live bytes, and the next ones are marked.
const markedMost = 64

// markCompaction marks a file, unless the command removes it.
func (a *applier) markCompaction(ino twofold.Ino) {
	if h, ok := a.inodes[ino]; ok && h.inode == nil {
		return
	}
	a.set(compactKey(ino), be64(be64(make([]byte, 0, 16), uint64(a.cmd.Session)), a.cmd.Seq))
}

// crowded reports whether anywhere among extents, which are in order, as many as c says
// lie within as many bytes. It looks at each one once.
func crowded(exts []metadata.Extent, c *metadata.Crowd) bool {
	if c == nil || c.Extents < 1 {
		return false
	}
	for i := c.Extents - 1; i < len(exts); i++ {
		if exts[i].Off+exts[i].Len-exts[i-(c.Extents-1)].Off <= c.Bytes {
			return true
		}
	}
	return false
}

// liveBytes adds up a blob's claims until they are half of it. Only if they are less
// it returns the inodes that have one.
func (a *applier) liveBytes(b twofold.Blob) (live int64, inos []twofold.Ino, err error) {
	prefix := id16(pClaim, b.ID)
	err = a.scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		if len(v) != 8 {
			return false, errNumber
		}
		live += int64(binary.BigEndian.Uint64(v))
		if len(k) == len(prefix)+9 && k[len(prefix)] == 'i' {
			inos = append(inos, inoOf(string(k[len(prefix)+1:])))
		}
		return 2*live < b.Size && len(inos) < markedMost, nil
	})
	if 2*live >= b.Size {
		inos = nil
	}
	return live, inos, err
}

func (a *applier) compacted(c *metadata.Compacted) (*metadata.Result, error) {
	if len(c.Marks) > maxDrop {
		return nil, refuse(errs.TooLarge)
	}
	for _, m := range c.Marks {
		v, err := a.get(compactKey(m.Ino))
		if err != nil {
			return nil, err
		}
		if len(v) == 16 && m.Session == twofold.SessionID(binary.BigEndian.Uint64(v)) && m.Seq == binary.BigEndian.Uint64(v[8:]) {
			a.del(compactKey(m.Ino))
		}
	}
	return &metadata.Result{}, nil
}

func (v *view) CompactionDue(last twofold.Ino, max int) (marks []metadata.CompactionMark, err error) {
	err = v.prefixed(string(rune(pCompact)), after(compactKey(last)), func(k, b []byte) (bool, error) {
		if len(k) != 9 || len(b) != 16 {
			return false, errNumber
		}
		marks = append(marks, metadata.CompactionMark{
			Ino:     inoOf(string(k[1:])),
			Session: twofold.SessionID(binary.BigEndian.Uint64(b)),
			Seq:     binary.BigEndian.Uint64(b[8:]),
		})
		return len(marks) != max, nil
	})
	return marks, err
}
