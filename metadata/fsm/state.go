package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"twofold"
	"twofold/metadata"
)

// state reads records; commands and views share it.
type state struct{ reader }

// inode returns nil where there is none.
func (s state) inode(ino twofold.Ino) (*metadata.Inode, error) {
	v, err := s.get(inodeKey(ino))
	if v == nil || err != nil {
		return nil, err
	}
	return metadata.DecodeInode(v)
}

// mustInode is for inodes that an entry or another inode names.
func (s state) mustInode(ino twofold.Ino) (*metadata.Inode, error) {
	i, err := s.inode(ino)
	if i == nil && err == nil {
		err = fmt.Errorf("inode %d is named but not there", ino)
	}
	return i, err
}

// entry reads a directory's slot: the one of directories, or the one of all else.
func (s state) entry(dir twofold.Ino, comp string, isDir bool) (e metadata.Entry, found bool, err error) {
	v, err := s.get(entryKey(dir, entrySuffix(comp, isDir)))
	if v == nil || err != nil {
		return e, false, err
	}
	e, err = metadata.DecodeEntry(v)
	return e, err == nil, err
}

// slot says which of a name's two entries is meant, if any.
type slot struct {
	metadata.Entry
	found bool
}

func (s slot) isDir() bool { return s.found && s.Type == metadata.TypeDir }

// lookup finds what a name means in a directory: the directory of that name, else
// the object; the object behind a directory with n.File, and only then.
func (s state) lookup(dir *metadata.Inode, n metadata.Name) (slot, error) {
	var d, f slot
	var err error
	if dir.Subdirs > 0 {
		if d.Entry, d.found, err = s.entry(dir.Ino, n.Comp, true); err != nil {
			return slot{}, err
		}
	}
	if d.found != n.File {
		return d, nil // a directory without File; or File without a directory: nothing
	}
	if dir.Children > uint64(dir.Subdirs) && n.Comp != "" {
		f.Entry, f.found, err = s.entry(dir.Ino, n.Comp, false)
	}
	return f, err
}

// bucket returns nil where there is none.
func (s state) bucket(name twofold.BucketName) (*metadata.Bucket, error) {
	v, err := s.get(bucketKey(name))
	if v == nil || err != nil {
		return nil, err
	}
	return metadata.DecodeBucket(v)
}

func (s state) bucketByID(id twofold.BucketID) (*metadata.Bucket, error) {
	v, err := s.get(bucketIDKey(id))
	if v == nil || err != nil {
		return nil, err
	}
	b, err := s.bucket(twofold.BucketName(v))
	if err == nil && (b == nil || b.ID != id) {
		err = fmt.Errorf("bucket %d is not the bucket of its name %q", id, v)
	}
	return b, err
}

func (s state) session(id twofold.SessionID) (*metadata.Session, error) {
	v, err := s.get(sessionKey(id))
	if v == nil || err != nil {
		return nil, err
	}
	return metadata.DecodeSession(v)
}

func (s state) upload(id twofold.UploadID) (*metadata.Upload, error) {
	v, err := s.get(uploadKey(id))
	if v == nil || err != nil {
		return nil, err
	}
	return metadata.DecodeUpload(v)
}

func (s state) part(id twofold.UploadID, n int) (*metadata.Part, error) {
	v, err := s.get(partKey(id, n))
	if v == nil || err != nil {
		return nil, err
	}
	return metadata.DecodePart(v)
}

var (
	errNumber = errors.New("a number in the state has not 8 bytes")
	errLinks  = errors.New("an inode with several links has none in the index")
)

func inoOf(b string) twofold.Ino { return twofold.Ino(binary.BigEndian.Uint64([]byte(b))) }

// number reads a counter; 0 where there is none.
func (s state) number(key string) (uint64, error) {
	v, err := s.get(key)
	if v == nil || err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, errNumber
	}
	return binary.BigEndian.Uint64(v), nil
}

// extents calls fn for each extent that reaches into [off, end), in order, whole,
// until fn returns false.
func (s state) extents(ino twofold.Ino, off, end int64, fn func(metadata.Extent) (bool, error)) error {
	if off >= end {
		return nil
	}
	return s.scan(extentKey(ino, off+1), prefixEnd(num(pExtent, uint64(ino))), func(_, v []byte) (bool, error) {
		e, err := metadata.DecodeExtent(v)
		if err != nil || e.Off >= end {
			return false, err
		}
		return fn(e)
	})
}

// clip cuts an extent to [off, end), which it must reach into.
func clip(e metadata.Extent, off, end int64) metadata.Extent {
	if e.Off < off {
		n := off - e.Off
		e.Off, e.Len = off, e.Len-n
		if e.Blob != nil {
			e.BlobOff += n
		} else {
			e.Data = e.Data[n:]
		}
	}
	if e.Off+e.Len > end {
		e.Len = end - e.Off
		if e.Blob == nil {
			e.Data = e.Data[:e.Len]
		}
	}
	return e
}
