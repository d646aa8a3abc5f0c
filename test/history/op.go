package history

import (
	"fmt"
	"strings"
)

// Kind names an operation.
type Kind string

// The operations of S3. RenameObject and appends get a kind, a case in tree.step and a
// client's method, as these have.
const (
	Put      Kind = "PUT" // also with If-Match, If-None-Match
	Get      Kind = "GET" // also of a range
	Head     Kind = "HEAD"
	Delete   Kind = "DELETE"
	List     Kind = "LIST"
	Copy     Kind = "COPY"
	Complete Kind = "COMPLETE" // of a multipart upload
)

// The operations of a mount: requests of the kernel to FUSE.
const (
	Lookup   Kind = "lookup"
	Create   Kind = "create"
	GetAttr  Kind = "getattr"
	Read     Kind = "read"
	Write    Kind = "write"
	Append   Kind = "append"
	Truncate Kind = "truncate"
	Fsync    Kind = "fsync"
	Unlink   Kind = "unlink"
	Rename   Kind = "rename"
	Link     Kind = "link"
	Mkdir    Kind = "mkdir"
	Rmdir    Kind = "rmdir"
	ReadDir  Kind = "readdir"
	GetXattr Kind = "getxattr"
	SetXattr Kind = "setxattr"
	Store    Kind = "mmap-store" // of a word, and msync(2)
	Load     Kind = "mmap-load"
)

// What happens to a mount.
const (
	Died  Kind = "died"  // kill -9: what it held unwritten may be gone
	Lossy Kind = "lossy" // from here on it may lose what it holds unwritten
)

// S3View is the view of S3; mounts count from 0. A mount that is killed and mounted
// again is another view.
const S3View = -1

// Op is what was called.
type Op struct {
	N      uint32  `json:"n"` // of this history
	Kind   Kind    `json:"kind"`
	View   int     `json:"view"`
	Key    string  `json:"key,omitempty"` // S3; of LIST the prefix
	To     string  `json:"to,omitempty"`  // COPY: the target
	Dir    uint64  `json:"dir,omitempty"` // inode numbers
	Name   string  `json:"name,omitempty"`
	ToDir  uint64  `json:"toDir,omitempty"`
	ToName string  `json:"toName,omitempty"`
	Ino    uint64  `json:"ino,omitempty"`
	Off    int     `json:"off,omitempty"` // in cells; of Truncate the size
	Len    int     `json:"len,omitempty"` // in cells; of GET 0 is all
	Data   content `json:"data,omitempty"`
	Meta   uint32  `json:"meta,omitempty"`   // the user metadata "t"
	Flag   bool    `json:"flag,omitempty"`   // Create: O_EXCL. LIST: with delimiter. PUT: If-None-Match: *
	IfETag string  `json:"ifEtag,omitempty"` // PUT: If-Match
	IfData content `json:"ifData,omitempty"` // what had that ETag
}

// Out is the answer.
type Out struct {
	Unknown bool     `json:"unknown,omitempty"` // it may have happened, may happen later, or not at all
	Err     string   `json:"err,omitempty"`     // an errno's name, or S3's code
	Ino     uint64   `json:"ino,omitempty"`
	Size    int      `json:"size,omitempty"` // in cells
	Nlink   int      `json:"nlink,omitempty"`
	Data    content  `json:"data,omitempty"`
	ETag    string   `json:"etag,omitempty"`
	Meta    uint32   `json:"meta,omitempty"`
	Names   []string `json:"names,omitempty"` // sorted
	List    []Listed `json:"list,omitempty"`  // in the order of the answer
	Torn    string   `json:"torn,omitempty"`  // why it can't be any state's
}

// Listed is a key in a listing, or a common prefix.
type Listed struct {
	Key    string `json:"key"`
	Prefix bool   `json:"prefix,omitempty"`
	Size   int    `json:"size,omitempty"`
	ETag   string `json:"etag,omitempty"`
}

// Event is an operation with its times, in nanoseconds since the round began. An unknown
// outcome has no end.
type Event struct {
	Client int   `json:"client"`
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	Op     *Op   `json:"op"`
	Out    *Out  `json:"out"`
}

// never is the end of what has none.
const never = int64(1) << 62

func (o *Op) String() string {
	var s strings.Builder
	if o.View == S3View {
		fmt.Fprintf(&s, "#%d S3 %s", o.N, o.Kind)
	} else {
		fmt.Fprintf(&s, "#%d m%d %s", o.N, o.View, o.Kind)
	}
	switch o.Kind {
	case Put, Complete:
		fmt.Fprintf(&s, " %s %v meta=%d", o.Key, o.Data, o.Meta)
		if o.Flag {
			s.WriteString(" if-none-match")
		}
		if o.IfETag != "" {
			fmt.Fprintf(&s, " if-match %s %v", o.IfETag, o.IfData)
		}
	case Get, Head, Delete, List, Copy:
		fmt.Fprintf(&s, " %s", o.Key)
		if o.Kind == Copy {
			fmt.Fprintf(&s, " to %s", o.To)
		}
		if o.Len > 0 {
			fmt.Fprintf(&s, "[%d:+%d]", o.Off, o.Len)
		}
		if o.Kind == List && o.Flag {
			s.WriteString(" delimiter")
		}
	case Lookup, Create, Unlink, Mkdir, Rmdir:
		fmt.Fprintf(&s, " i%d/%s", o.Dir, o.Name)
		if o.Flag {
			s.WriteString(" excl")
		}
	case Rename:
		fmt.Fprintf(&s, " i%d/%s to i%d/%s", o.Dir, o.Name, o.ToDir, o.ToName)
	case Link:
		fmt.Fprintf(&s, " i%d to i%d/%s", o.Ino, o.Dir, o.Name)
	case ReadDir:
		fmt.Fprintf(&s, " i%d", o.Dir)
	case Write, Append:
		fmt.Fprintf(&s, " i%d at %d %v", o.Ino, o.Off, o.Data)
	case Read:
		fmt.Fprintf(&s, " i%d[%d:+%d]", o.Ino, o.Off, o.Len)
	case Truncate:
		fmt.Fprintf(&s, " i%d to %d", o.Ino, o.Off)
	case Store, Load:
		fmt.Fprintf(&s, " i%d[%d] %d", o.Ino, o.Off, o.Meta)
	case GetAttr, Fsync, GetXattr, SetXattr:
		fmt.Fprintf(&s, " i%d", o.Ino)
		if o.Kind == SetXattr {
			fmt.Fprintf(&s, " t=%d", o.Meta)
		}
	}
	return s.String()
}

func (o *Out) describe(k Kind) string {
	switch {
	case o.Torn != "":
		return "TORN: " + o.Torn
	case o.Unknown:
		return "unknown (" + o.Err + ")"
	case o.Err != "":
		return o.Err
	}
	switch k {
	case Get:
		return fmt.Sprintf("%v of %d meta=%d %s", o.Data, o.Size, o.Meta, o.ETag)
	case Head:
		return fmt.Sprintf("%d cells meta=%d %s", o.Size, o.Meta, o.ETag)
	case Put, Copy, Complete:
		return o.ETag
	case Lookup, Create:
		return fmt.Sprintf("i%d", o.Ino)
	case GetAttr:
		return fmt.Sprintf("%d cells, %d links", o.Size, o.Nlink)
	case Read:
		return o.Data.String()
	case ReadDir:
		return strings.Join(o.Names, " ")
	case List:
		var s []string
		for _, l := range o.List {
			s = append(s, fmt.Sprintf("%s:%d %.6s", l.Key, l.Size, l.ETag))
		}
		return strings.Join(s, ", ")
	case GetXattr, Load:
		return fmt.Sprint(o.Meta)
	}
	return "ok"
}
