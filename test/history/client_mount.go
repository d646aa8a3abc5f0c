package history

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountClient is one process's worth of system calls on a mount. It keeps a descriptor
// of nothing but the bucket's directory from one step to the next.
type mountClient struct {
	*round
	id    int
	mount int // which one; op.View is of its incarnation
	rng   *rand.Rand
	buf   []byte // page-aligned, so that a read is one request

	view int
	root int // descriptor
}

// step does one or a few operations. It reports whether the mount was there.
func (c *mountClient) step() bool {
	m, ok := c.rig.mounts[c.mount].enter()
	if !ok {
		return false
	}
	defer m.leave()
	c.view, c.root = m.view, m.root
	if c.maps && c.mount == 0 && c.rng.IntN(6) == 0 {
		c.mapping()
	} else {
		c.some()
	}
	return true
}

// some does something to a name.
func (c *mountClient) some() {
	dir, base, closeDir, ok := c.somePlace()
	if !ok {
		return
	}
	defer closeDir()
	switch n := c.rng.IntN(100); {
	case n < 24:
		c.read(dir, base)
	case n < 50:
		c.write(dir, base)
	case n < 56:
		c.create(dir, base, unix.O_EXCL)
	case n < 64:
		c.create(dir, base, 0)
	case n < 72:
		c.stat(dir, base)
	case n < 78:
		c.unlink(dir, base)
	case n < 86:
		c.rename(dir, base)
	case n < 90:
		c.link(dir, base)
	case n < 94:
		c.readdir(dir)
	case n < 96:
		c.xattr(dir, base)
	default:
		c.directory()
	}
}

// place is an open directory.
type place struct {
	fd  int
	ino uint64
}

// somePlace opens a directory of the tree and chooses a name in it.
func (c *mountClient) somePlace() (p place, base string, done func(), ok bool) {
	return c.place(c.someKey(c.rng))
}

func (c *mountClient) place(key string) (p place, base string, done func(), ok bool) {
	dir, base, below := strings.Cut(key, "/")
	if !below {
		return place{c.root, c.rootIno}, dir, func() {}, true
	}
	op := &Op{Kind: Lookup, View: c.view, Dir: c.rootIno, Name: dir}
	call := c.rec.now()
	fd, err := unix.Openat(c.root, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	ret := c.rec.now()
	if err != nil {
		if err == unix.ENOENT {
			c.rec.add(c.id, op, &Out{Err: "ENOENT"}, call, ret)
		} else {
			c.outcome("open "+dir, err)
		}
		return p, "", nil, false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil { // removed since: there was one, but which?
		c.rec.add(c.id, op, &Out{}, call, ret)
		unix.Close(fd)
		return p, "", nil, false
	}
	c.rec.add(c.id, op, &Out{Ino: st.Ino}, call, ret)
	return place{fd, st.Ino}, base, func() { unix.Close(fd) }, true
}

// outcome is the answer of an errno.
func (c *mountClient) outcome(what string, err error) *Out {
	switch err {
	case nil:
		return &Out{}
	case unix.EINTR:
		return &Out{Unknown: true, Err: "EINTR"}
	case unix.ENOENT, unix.EEXIST, unix.ENOTEMPTY, unix.ESTALE:
		return &Out{Err: unix.ErrnoName(err.(unix.Errno))}
	case unix.EIO, unix.ENOTCONN, unix.ECONNABORTED, unix.ENOSPC, unix.EROFS, unix.ENODEV:
		if !c.faulty {
			c.rec.odd(fmt.Sprintf("mount %d: %s: %v", c.mount, what, err))
		}
		return &Out{Unknown: true, Err: err.Error()}
	}
	return &Out{Err: err.Error()}
}

func (c *mountClient) do(op *Op, fn func() error) *Out {
	op.View = c.view
	return c.rec.do(c.id, op, func() *Out { return c.outcome(op.String(), fn()) })
}

// open opens a file that is there: recorded as the lookup of its name and as fstat(2).
func (c *mountClient) open(p place, base string, flags int) (fd int, ino uint64, ok bool) {
	call := c.rec.now()
	fd, err := unix.Openat(p.fd, base, flags|unix.O_CLOEXEC|c.openFlags, 0)
	ret := c.rec.now()
	return c.opened(&Op{Kind: Lookup, View: c.view, Dir: p.ino, Name: base}, fd, err, call, ret)
}

func (c *mountClient) opened(op *Op, fd int, err error, call, ret int64) (int, uint64, bool) {
	if err == unix.ESTALE { // gone while it was being opened, or with its directory
		err = unix.EINTR
	}
	if err != nil {
		c.rec.add(c.id, op, c.outcome(op.String(), err), call, ret)
		return 0, 0, false
	}
	ino, ok := c.fstat(fd)
	c.rec.add(c.id, op, &Out{Ino: ino}, call, ret)
	if !ok {
		unix.Close(fd)
	}
	return fd, ino, ok
}

// fstat is fstat(2) of a file; without an answer it reports false.
func (c *mountClient) fstat(fd int) (ino uint64, ok bool) {
	var st unix.Stat_t
	call := c.rec.now()
	err := unix.Fstat(fd, &st)
	ret := c.rec.now()
	if err != nil {
		c.outcome("fstat", err)
		return 0, false
	}
	c.attributes(&st, call, ret)
	return st.Ino, true
}

func (c *mountClient) attributes(st *unix.Stat_t, call, ret int64) {
	out := &Out{Size: int(st.Size) / c.cell, Nlink: int(st.Nlink)}
	if st.Size%int64(c.cell) != 0 {
		out.Torn = fmt.Sprintf("%d bytes", st.Size)
	}
	c.rec.add(c.id, &Op{Kind: GetAttr, View: c.view, Ino: st.Ino}, out, call, ret)
}

// stat is stat(2) of a name: its lookup, and the attributes.
func (c *mountClient) stat(p place, base string) {
	var st unix.Stat_t
	call := c.rec.now()
	err := unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	ret := c.rec.now()
	op := &Op{Kind: Lookup, View: c.view, Dir: p.ino, Name: base}
	if err != nil {
		if err == unix.ENOENT {
			c.rec.add(c.id, op, &Out{Err: "ENOENT"}, call, ret)
		}
		return
	}
	c.rec.add(c.id, op, &Out{Ino: st.Ino}, call, ret)
	c.attributes(&st, call, ret)
}

func (c *mountClient) read(p place, base string) {
	fd, ino, ok := c.open(p, base, unix.O_RDONLY)
	if !ok {
		return
	}
	defer unix.Close(fd)
	for range 1 + c.rng.IntN(2) {
		c.pread(fd, ino)
	}
}

func (c *mountClient) pread(fd int, ino uint64) {
	op := &Op{Kind: Read, View: c.view, Ino: ino, Len: maxRead}
	if c.rng.IntN(3) == 0 {
		op.Off, op.Len = c.rng.IntN(maxCells), 1+c.rng.IntN(maxCells)
	}
	c.rec.do(c.id, op, func() *Out {
		n, err := unix.Pread(fd, c.buf[:op.Len*c.cell], int64(op.Off*c.cell))
		if err != nil {
			return c.outcome(op.String(), err)
		}
		out := &Out{}
		if out.Data, err = parse(c.buf[:n], c.cell); err != nil {
			out.Torn = err.Error()
		}
		return out
	})
}

// write opens a file that is there and does things to it.
func (c *mountClient) write(p place, base string) {
	flags := unix.O_RDWR
	if base != mapped && c.rng.IntN(3) == 0 {
		flags |= unix.O_APPEND
	}
	if base == mapped && c.mount == 0 && c.maps {
		return // a store to a page and a write(2) to it are not apart there (docs/design.md)
	}
	fd, ino, ok := c.open(p, base, flags)
	if !ok {
		return
	}
	defer unix.Close(fd)
	c.change(fd, ino, base, flags&unix.O_APPEND != 0)
}

func (c *mountClient) create(p place, base string, excl int) {
	if base == mapped {
		return
	}
	op := c.rec.number(&Op{Kind: Create, View: c.view, Dir: p.ino, Name: base, Flag: excl != 0})
	call := c.rec.now()
	fd, err := unix.Openat(p.fd, base, unix.O_RDWR|unix.O_CREAT|excl|unix.O_CLOEXEC|c.openFlags, 0o644)
	ret := c.rec.now()
	if err == unix.ESTALE {
		c.rec.add(c.id, op, &Out{Unknown: true, Err: "ESTALE"}, call, ret)
		return
	}
	fd, ino, ok := c.opened(op, fd, err, call, ret)
	if !ok {
		return
	}
	defer unix.Close(fd)
	c.change(fd, ino, base, false)
}

// change does one to three things to an open file.
func (c *mountClient) change(fd int, ino uint64, base string, appends bool) {
	for range 1 + c.rng.IntN(3) {
		n := c.rng.IntN(10)
		switch {
		case base == mapped:
			if n < 5 {
				c.pwrite(fd, ino, c.rng.IntN(mappedCells), 1)
			} else {
				c.pread(fd, ino)
			}
		case n < 8 && appends:
			// Others append in between: what the kernel knows of the end is old then.
			time.Sleep(time.Duration(c.rng.IntN(2000)) * time.Microsecond)
			c.append(fd, ino)
		case n < 5:
			off := c.rng.IntN(maxCells)
			c.pwrite(fd, ino, off, 1+c.rng.IntN(maxCells-off))
		case n < 6:
			size := c.rng.IntN(maxCells + 1)
			c.do(&Op{Kind: Truncate, Ino: ino, Off: size}, func() error { return unix.Ftruncate(fd, int64(size*c.cell)) })
		case n < 7:
			c.do(&Op{Kind: Fsync, Ino: ino}, func() error { return unix.Fsync(fd) })
		case n < 8:
			c.fstat(fd)
		default:
			c.pread(fd, ino)
		}
	}
}

func (c *mountClient) pwrite(fd int, ino uint64, off, n int) {
	data := fill(c.rec.newToken(), n)
	b := data.render(c.cell)
	c.do(&Op{Kind: Write, Ino: ino, Off: off, Data: data}, func() error {
		_, err := unix.Pwrite(fd, b, int64(off*c.cell))
		return err
	})
}

func (c *mountClient) append(fd int, ino uint64) {
	data := fill(c.rec.newToken(), 1)
	b := data.render(c.cell)
	c.do(&Op{Kind: Append, Ino: ino, Data: data}, func() error {
		_, err := unix.Write(fd, b)
		return err
	})
}

func (c *mountClient) unlink(p place, base string) {
	if base != mapped {
		c.do(&Op{Kind: Unlink, Dir: p.ino, Name: base}, func() error { return unix.Unlinkat(p.fd, base, 0) })
	}
}

// rename renames a file over what is there or not. Not names that hard links may have:
// if both are one inode, the kernel's two lookups decide, and not one request.
func (c *mountClient) rename(p place, base string) {
	to, toBase, done, ok := c.somePlace()
	if !ok {
		return
	}
	defer done()
	if base == mapped || toBase == mapped || base == linked || toBase == linked || p.ino == to.ino && base == toBase {
		return
	}
	if !c.renames(p.ino, base, to.ino, toBase) {
		return
	}
	c.do(&Op{Kind: Rename, Dir: p.ino, Name: base, ToDir: to.ino, ToName: toBase}, func() error {
		return unix.Renameat(p.fd, base, to.fd, toBase)
	})
}

// renames reports whether it is this mount that renames one name to the other. If two did, the
// kernel of one might look the source up before and the target behind the other's rename,
// find one inode under both names, and answer success without a request (vfs_rename).
// Clients of one mount wait for each other at the directories' locks.
func (c *mountClient) renames(dir uint64, name string, toDir uint64, toName string) bool {
	h := fnv.New32a()
	fmt.Fprintf(h, "%d/%s %d/%s", dir, name, toDir, toName)
	return int(h.Sum32())%len(c.rig.mounts) == c.mount
}

// link gives an open file another name: linkat(2) by /proc, so that the file that was
// looked up is the one that is linked.
func (c *mountClient) link(p place, base string) {
	if base == linked || base == mapped {
		return
	}
	fd, ino, ok := c.open(p, base, unix.O_RDONLY)
	if !ok {
		return
	}
	defer unix.Close(fd)
	to, _, done, ok := c.somePlace()
	if !ok {
		return
	}
	defer done()
	c.do(&Op{Kind: Link, Ino: ino, Dir: to.ino, Name: linked}, func() error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), to.fd, linked, unix.AT_SYMLINK_FOLLOW)
	})
}

// readdir is one getdents64(2), which is one READDIR for so few names.
func (c *mountClient) readdir(p place) {
	fd, err := unix.Openat(p.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		c.outcome("open .", err)
		return
	}
	defer unix.Close(fd)
	op := &Op{Kind: ReadDir, View: c.view, Dir: p.ino}
	c.rec.do(c.id, op, func() *Out {
		buf := make([]byte, 8<<10)
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return c.outcome(op.String(), err)
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		slices.Sort(names)
		return &Out{Names: names}
	})
}

// xattr sets or reads the user metadata "t" through the mount.
func (c *mountClient) xattr(p place, base string) {
	fd, ino, ok := c.open(p, base, unix.O_RDWR)
	if !ok {
		return
	}
	defer unix.Close(fd)
	if c.rng.IntN(2) == 0 {
		op := &Op{Kind: SetXattr, Ino: ino, Meta: c.rec.newToken()}
		c.do(op, func() error { return unix.Fsetxattr(fd, "user.t", []byte(strconv.Itoa(int(op.Meta))), 0) })
		return
	}
	op := &Op{Kind: GetXattr, View: c.view, Ino: ino}
	c.rec.do(c.id, op, func() *Out {
		b := make([]byte, 64)
		n, err := unix.Fgetxattr(fd, "user.t", b)
		if err == unix.ENODATA {
			return &Out{}
		}
		if err != nil {
			return c.outcome(op.String(), err)
		}
		v, _ := strconv.ParseUint(string(b[:n]), 10, 32)
		return &Out{Meta: uint32(v)}
	})
}

// directory makes, removes and renames directories.
func (c *mountClient) directory() {
	if len(c.dirs) == 0 {
		return
	}
	d := c.dirs[c.rng.IntN(len(c.dirs))]
	op := &Op{Dir: c.rootIno, Name: d}
	switch c.rng.IntN(4) {
	case 0:
		op.Kind = Mkdir
		c.do(op, func() error { return unix.Mkdirat(c.root, d, 0o755) })
	case 1:
		op.Kind = Rmdir
		c.do(op, func() error { return unix.Unlinkat(c.root, d, unix.AT_REMOVEDIR) })
	default:
		to := c.dirs[c.rng.IntN(len(c.dirs))]
		if to == d || !c.renames(c.rootIno, d, c.rootIno, to) {
			return
		}
		op.Kind, op.ToDir, op.ToName = Rename, c.rootIno, to
		c.do(op, func() error { return unix.Renameat(c.root, d, c.root, to) })
	}
}
