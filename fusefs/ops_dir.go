package fusefs

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

// dir is an open directory. The kernel names places in it by numbers: 0 is the
// start, 1 behind ".", 2 behind "..", and 2+i behind the i-th entry ever returned.
// For each the volume's cursor is kept, so that a place stays where it is whatever
// changes around it. Entries are asked for when the kernel asks, and those that
// don't fit are forgotten: no reply is older than its request.
type dir struct {
	ino twofold.Ino

	mu      sync.Mutex
	text    []byte // the cursors, one behind the other
	ends    []int  // where each ends in text
	average int    // bytes of an entry in recent replies
	credit  int    // entries that attributes are still asked for, see wanted
	looks   uint32 // lookups.of the directory at the last reply
}

const (
	offDot    = 1
	offDotDot = 2
	direntMin = 32 // bytes of an entry with a short name
)

// cursor is where the kernel's offset is; ok is false where it was never given.
func (d *dir) cursor(off uint64) (c string, ok bool) {
	i := off - offDotDot
	if i == 0 {
		return "", true
	}
	if i > uint64(len(d.ends)) {
		return "", false
	}
	from := 0
	if i > 1 {
		from = d.ends[i-2]
	}
	return string(d.text[from:d.ends[i-1]]), true
}

// offset is the kernel's offset for what follows the entry behind off that has
// this cursor. A place that was told before keeps its number.
func (d *dir) offset(off uint64, cursor string) uint64 {
	next := off + 1
	if c, ok := d.cursor(next); ok && c == cursor {
		return next
	}
	d.text = append(d.text, cursor...)
	d.ends = append(d.ends, len(d.text))
	return offDotDot + uint64(len(d.ends))
}

// OpenDir starts a listing. The kernel has looked the directory up just now.
func (f *fsys) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh = f.handles.addDir(twofold.Ino(in.NodeId))
	return fuse.OK
}

// ReleaseDir ends one.
func (f *fsys) ReleaseDir(in *fuse.ReleaseIn) { f.handles.dropDir(in.Fh) }

// FsyncDir is fsync(2) of a directory.
func (f *fsys) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return errno(f.durable(ctx, twofold.Ino(in.NodeId)))
}

// ReadDir is getdents(2).
func (f *fsys) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	return f.list(ctx, in, false, func(e fuse.DirEntry, _ *api.Attr) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus is getdents(2) with a lookup of each entry. Attributes are only asked for
// where they may be cached and are likely to be used (dir.wanted): an entry without is one
// that the kernel has not looked up.
func (f *fsys) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	moment, m := f.released.now(), f.cache.now()
	return f.list(ctx, in, true, func(e fuse.DirEntry, a *api.Attr) bool {
		eo := out.AddDirLookupEntry(e)
		if eo == nil {
			return false
		}
		if a != nil { // a node id of 0 is a name without a lookup
			if ok, err := f.current(ctx, a, moment, true); ok && err == nil {
				f.lookedUp(twofold.Ino(in.NodeId), e.Name, *a, m, eo)
			}
		}
		return true
	})
}

// list gives entries to add until it says that they don't fit any more. With plus each
// takes the room of its attributes, also where it comes without.
func (f *fsys) list(ctx context.Context, in *fuse.ReadIn, plus bool, add func(fuse.DirEntry, *api.Attr) bool) fuse.Status {
	d := f.handles.dir(in.Fh)
	if d == nil {
		return fuse.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	off := in.Offset
	if off == 0 {
		d.text, d.ends = nil, nil // rewinddir: a fresh listing
		if !add(fuse.DirEntry{Name: ".", Ino: uint64(d.ino), Mode: fuse.S_IFDIR, Off: offDot}, nil) {
			return fuse.OK
		}
		off = offDot
	}
	if off == offDot {
		if !add(fuse.DirEntry{Name: "..", Ino: fuse.FUSE_UNKNOWN_INO, Mode: fuse.S_IFDIR, Off: offDotDot}, nil) {
			return fuse.OK
		}
		off = offDotDot
	}
	cursor, ok := d.cursor(off)
	if !ok {
		return fuse.EINVAL
	}
	attrs := plus && f.cache.alive(time.Now()) > 0 && d.wanted(off == offDotDot, f.lookups.of(d.ino), f.cache.max.inodes)
	entries, _, err := f.files.ReadDir(ctx, d.ino, cursor, d.guess(int(in.Size), plus), attrs)
	if err != nil {
		return errno(err)
	}
	for i := range entries {
		e := &entries[i]
		next := d.offset(off, e.Cursor)
		var a *api.Attr
		if attrs {
			a = &e.Attr
		}
		de := fuse.DirEntry{Name: e.Name, Ino: uint64(e.Attr.Ino), Mode: typeBits(e.Attr.Type), Off: next}
		if !add(de, a) {
			d.forget(next)
			break
		}
		d.average = (7*d.average + direntMin + len(e.Name)) / 8
		off = next
		if attrs {
			d.credit--
		}
	}
	return fuse.OK
}

// wanted tells whether the next reply is to have attributes. Nobody says whether a program
// that reads a directory is going to stat what it finds, and attributes are most of what a
// listing costs, here, in the kernel and at the server, which grants a lease with each. So
// they come with as many entries as the cache may hold, which covers programs that read all
// before they stat anything, and from there on while names are looked up: the kernel asks
// LOOKUP for each stat(2) of a file, as it is given no timeout for their names (grantName).
// first is at the start of a listing, looks the number of lookups, kept what the cache holds.
func (d *dir) wanted(first bool, looks uint32, kept int) bool {
	if first || looks != d.looks {
		d.credit, d.looks = kept, looks
	}
	return d.credit > 0
}

// guess is how many entries will fill a reply of size bytes, or a few more.
func (d *dir) guess(size int, plus bool) int {
	each := max(direntMin, d.average)
	if plus {
		each += entryOutSize
	}
	return size/each + 1
}

// entryOutSize is what an entry's attributes take in a reply to READDIRPLUS, in bytes
// (struct fuse_entry_out, linux/fuse.h).
const entryOutSize = 128

// lookups counts the LOOKUPs of names in each directory, or of several that share a counter:
// a hint, of which a wrong one costs no more than time.
type lookups [256]atomic.Uint32

func (l *lookups) counter(dir twofold.Ino) *atomic.Uint32 { return &l[dir%twofold.Ino(len(l))] }

func (l *lookups) of(dir twofold.Ino) uint32 { return l.counter(dir).Load() }

func (l *lookups) add(dir twofold.Ino) { l.counter(dir).Add(1) }

// forget takes back an offset that was not told.
func (d *dir) forget(off uint64) {
	if off == offDotDot+uint64(len(d.ends)) {
		d.ends = d.ends[:len(d.ends)-1]
		last := 0
		if len(d.ends) > 0 {
			last = d.ends[len(d.ends)-1]
		}
		d.text = d.text[:last]
	}
}
