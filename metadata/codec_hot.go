package metadata

import (
	"math"

	"twofold"
	"twofold/internal/errs"
)

// The codec of the hot records: a page of a listing decodes a thousand inodes, and
// every replica encodes a few records for each command.
//
//	+---------+----------------------------------------------+
//	| version | CBOR: map {field number: value, ...}          |
//	| 1 byte  | numbers ascend; zero values are left out      |
//	+---------+----------------------------------------------+

// AppendInode appends the record to b.
func AppendInode(b []byte, i *Inode) []byte { return appendInode(append(b, RecordVersion), i) }

// EncodeInode encodes the record. Equal records have equal bytes.
func EncodeInode(i *Inode) []byte { return AppendInode(make([]byte, 0, 160), i) }

func appendInode(b []byte, i *Inode) []byte {
	w := beginMap(b)
	w.alwaysUint(1, uint64(i.Ino))
	w.alwaysUint(2, uint64(i.Bucket))
	w.alwaysUint(3, uint64(i.Type))
	w.uint(4, uint64(i.Mode))
	w.uint(5, uint64(i.UID))
	w.uint(6, uint64(i.GID))
	w.bool(7, i.ModeSet)
	w.bool(8, i.UIDSet)
	w.bool(9, i.GIDSet)
	w.alwaysUint(10, uint64(i.Nlink))
	w.uint(11, uint64(i.Rdev))
	w.int(12, i.Size)
	w.int(13, i.Stored)
	w.int(14, int64(i.Atime))
	w.int(15, int64(i.Mtime))
	w.int(16, int64(i.Ctime))
	w.int(17, int64(i.Btime))
	w.uint(18, uint64(i.Parent))
	w.text(19, i.Name)
	w.uint(20, i.Children)
	w.uint(21, uint64(i.Subdirs))
	w.bool(22, i.Explicit)
	w.text(23, i.Target)
	w.uint(24, i.Version)
	w.text(25, i.ETag)
	w.strings(26, i.Headers)
	w.strings(27, i.UserMeta)
	w.byteStrings(28, i.Xattrs)
	if i.Checksum != nil {
		w.key(29)
		w.b = appendChecksum(w.b, i.Checksum)
	}
	w.text(30, i.Class)
	if len(i.Parts) > 0 {
		w.key(31)
		w.b = appendHead(w.b, majorArray, uint64(len(i.Parts)))
		for _, n := range i.Parts {
			w.b = appendInt(w.b, n)
		}
	}
	w.bool(32, i.Unnamed)
	w.bytes(33, i.ACL)
	w.bytes(34, i.DefaultACL)
	w.int(35, i.Reserve)
	w.bool(36, i.Charged)
	return w.end()
}

func appendChecksum(b []byte, c *Checksum) []byte {
	b = append(b, majorMap<<5|3, 1)
	b = append(appendText(b, c.Algorithm), 2)
	b = append(appendText(b, c.Value), 3)
	return appendText(b, c.Type)
}

// DecodeInode decodes what EncodeInode wrote. It keeps nothing of b.
func DecodeInode(b []byte) (*Inode, error) {
	r, err := record(b, "inode")
	if err != nil {
		return nil, err
	}
	i := &Inode{}
	r.inode(i)
	if err := r.end(); err != nil {
		return nil, corrupt("inode", err)
	}
	return i, nil
}

func (r *cborReader) inode(i *Inode) {
	r.fields(func(k uint64) {
		switch k {
		case 1:
			i.Ino = twofold.Ino(r.uint(math.MaxUint64))
		case 2:
			i.Bucket = twofold.BucketID(r.uint(math.MaxUint64))
		case 3:
			i.Type = Type(r.uint(math.MaxUint8))
		case 4:
			i.Mode = uint32(r.uint(math.MaxUint32))
		case 5:
			i.UID = uint32(r.uint(math.MaxUint32))
		case 6:
			i.GID = uint32(r.uint(math.MaxUint32))
		case 7:
			i.ModeSet = r.bool()
		case 8:
			i.UIDSet = r.bool()
		case 9:
			i.GIDSet = r.bool()
		case 10:
			i.Nlink = uint32(r.uint(math.MaxUint32))
		case 11:
			i.Rdev = uint32(r.uint(math.MaxUint32))
		case 12:
			i.Size = r.int()
		case 13:
			i.Stored = r.int()
		case 14:
			i.Atime = twofold.Time(r.int())
		case 15:
			i.Mtime = twofold.Time(r.int())
		case 16:
			i.Ctime = twofold.Time(r.int())
		case 17:
			i.Btime = twofold.Time(r.int())
		default:
			r.inodeRest(i, k)
		}
	})
}

func (r *cborReader) inodeRest(i *Inode, k uint64) {
	switch k {
	case 18:
		i.Parent = twofold.Ino(r.uint(math.MaxUint64))
	case 19:
		i.Name = r.text()
	case 20:
		i.Children = r.uint(math.MaxUint64)
	case 21:
		i.Subdirs = uint32(r.uint(math.MaxUint32))
	case 22:
		i.Explicit = r.bool()
	case 23:
		i.Target = r.text()
	case 24:
		i.Version = r.uint(math.MaxUint64)
	case 25:
		i.ETag = r.text()
	case 26:
		i.Headers = r.strings()
	case 27:
		i.UserMeta = r.strings()
	case 28:
		i.Xattrs = r.byteStrings()
	case 29:
		i.Checksum = r.checksum()
	case 30:
		i.Class = r.text()
	case 31:
		n := r.count(majorArray, 1)
		i.Parts = make([]int64, 0, n)
		for range n {
			i.Parts = append(i.Parts, r.int())
		}
	case 32:
		i.Unnamed = r.bool()
	case 33:
		i.ACL = append([]byte(nil), r.raw(majorBytes)...)
	case 34:
		i.DefaultACL = append([]byte(nil), r.raw(majorBytes)...)
	case 35:
		i.Reserve = r.int()
	case 36:
		i.Charged = r.bool()
	default:
		r.fail(errField)
	}
}

func (r *cborReader) checksum() *Checksum {
	c := &Checksum{}
	r.fields(func(k uint64) {
		switch k {
		case 1:
			c.Algorithm = r.text()
		case 2:
			c.Value = r.text()
		case 3:
			c.Type = r.text()
		default:
			r.fail(errField)
		}
	})
	return c
}

// EncodeUsage encodes the record.
func EncodeUsage(u *Usage) []byte {
	w := beginMap(append(make([]byte, 0, 32), RecordVersion))
	w.int(1, u.Used)
	w.int(2, u.Reserved)
	w.int(3, u.Limit)
	return w.end()
}

// DecodeUsage decodes what EncodeUsage wrote.
func DecodeUsage(b []byte) (Usage, error) {
	var u Usage
	r, err := record(b, "usage")
	if err != nil {
		return u, err
	}
	r.fields(func(k uint64) {
		switch k {
		case 1:
			u.Used = r.int()
		case 2:
			u.Reserved = r.int()
		case 3:
			u.Limit = r.int()
		default:
			r.fail(errField)
		}
	})
	if err := r.end(); err != nil {
		return Usage{}, corrupt("usage", err)
	}
	return u, nil
}

// EncodeEntry encodes the record.
func EncodeEntry(e *Entry) []byte {
	w := beginMap(append(make([]byte, 0, 16), RecordVersion))
	w.alwaysUint(1, uint64(e.Ino))
	w.alwaysUint(2, uint64(e.Type))
	return w.end()
}

// DecodeEntry decodes what EncodeEntry wrote.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	r, err := record(b, "entry")
	if err != nil {
		return e, err
	}
	r.fields(func(k uint64) {
		switch k {
		case 1:
			e.Ino = twofold.Ino(r.uint(math.MaxUint64))
		case 2:
			e.Type = Type(r.uint(math.MaxUint8))
		default:
			r.fail(errField)
		}
	})
	if err := r.end(); err != nil {
		return Entry{}, corrupt("entry", err)
	}
	return e, nil
}

// EncodeExtent encodes the record.
func EncodeExtent(e *Extent) []byte {
	return appendExtent(append(make([]byte, 0, 64+len(e.Data)), RecordVersion), e)
}

func appendExtent(b []byte, e *Extent) []byte {
	w := beginMap(b)
	w.int(1, e.Off)
	w.alwaysInt(2, e.Len)
	if e.Blob != nil {
		w.key(3)
		w.b = appendBlob(w.b, e.Blob)
	}
	w.int(4, e.BlobOff)
	if len(e.Data) > 0 {
		w.key(5)
		w.b = appendBytes(w.b, e.Data)
	}
	return w.end()
}

func appendBlob(b []byte, v *twofold.Blob) []byte {
	b = append(b, majorArray<<5|5)
	b = appendBytes(b, v.ID[:])
	b = append(b, majorArray<<5|2)
	b = appendHead(b, majorUint, uint64(v.Set.Pool))
	b = appendHead(b, majorUint, uint64(v.Set.Set))
	b = appendHead(b, majorUint, uint64(v.Data))
	b = appendHead(b, majorUint, uint64(v.Parity))
	return appendInt(b, v.Size)
}

// DecodeExtent decodes what EncodeExtent wrote. It keeps nothing of b.
func DecodeExtent(b []byte) (Extent, error) {
	var e Extent
	r, err := record(b, "extent")
	if err != nil {
		return e, err
	}
	r.extent(&e, false)
	if err := r.end(); err != nil {
		return Extent{}, corrupt("extent", err)
	}
	return e, nil
}

// extent reads an extent. Its data stays in place where shared, else it is copied.
func (r *cborReader) extent(e *Extent, shared bool) {
	r.fields(func(k uint64) {
		switch k {
		case 1:
			e.Off = r.int()
		case 2:
			e.Len = r.int()
		case 3:
			e.Blob = r.blob()
		case 4:
			e.BlobOff = r.int()
		case 5:
			if e.Data = r.raw(majorBytes); !shared {
				e.Data = append([]byte(nil), e.Data...)
			}
		default:
			r.fail(errField)
		}
	})
}

func (r *cborReader) blob() *twofold.Blob {
	v := &twofold.Blob{}
	if r.want(majorArray) != 5 {
		r.fail(errForm)
		return v
	}
	if id := r.raw(majorBytes); len(id) == len(v.ID) {
		copy(v.ID[:], id)
	} else {
		r.fail(errForm)
	}
	if r.want(majorArray) != 2 {
		r.fail(errForm)
	}
	v.Set.Pool = uint16(r.uint(math.MaxUint16))
	v.Set.Set = uint16(r.uint(math.MaxUint16))
	v.Data = uint8(r.uint(math.MaxUint8))
	v.Parity = uint8(r.uint(math.MaxUint8))
	v.Size = r.int()
	return v
}

// EncodeResult encodes a result, as it is kept for a command that comes again.
func EncodeResult(res *Result) ([]byte, error) {
	b := append(make([]byte, 0, 384), RecordVersion, majorArray<<5|8)
	b = appendBool(b, res.Failed)
	b = appendHead(b, majorUint, uint64(res.Kind))
	b = appendText(b, res.Msg)
	for _, i := range []*Inode{res.Inode, res.Parent} {
		if i == nil {
			b = append(b, cborNull)
		} else {
			b = appendInode(b, i)
		}
	}
	if res.Bucket == nil {
		b = append(b, cborNull)
	} else {
		p, err := canonical.Marshal(res.Bucket)
		if err != nil {
			return nil, errs.E("metadata.EncodeResult", errs.Invalid, err)
		}
		b = append(b, p...)
	}
	b = appendHead(b, majorUint, res.ID)
	return appendBool(b, res.More), nil
}

// DecodeResult decodes what EncodeResult wrote.
func DecodeResult(b []byte) (*Result, error) { return decodeRecord[Result](b, "result") }
