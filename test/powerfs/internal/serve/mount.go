package serve

import (
	"errors"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold/test/powerfs/internal/disk"
)

// mount serves one disk to the kernel. Names and attributes are never cached
// there, so that a fault is met at once; pages are, for mmap and write-back.
type mount struct {
	fuse.RawFileSystem // answers ENOSYS to what is left out: xattrs, locks (the kernel keeps them), ioctl
	disk               *disk.Disk
	drive              int
	faults             *faults
	power              *power
	server             *fuse.Server

	mu     sync.Mutex // guards what follows
	lastFh uint64
	dirs   map[uint64][]disk.Entry // open directories: what they listed at offset 0
}

var _ fuse.RawFileSystem = (*mount)(nil)

func newMount(d *disk.Disk, drive int, f *faults, p *power) *mount {
	return &mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		disk:          d, drive: drive, faults: f, power: p,
		dirs: make(map[uint64][]disk.Entry),
	}
}

// power is the mains: every request holds it while it runs, and the cut takes it
// away from all drives at the same instant.
type power struct {
	mu   sync.RWMutex
	once sync.Once
	dead chan struct{} // closed by cut
}

// cut keeps new requests out for good, wakes those that hang, waits for those that
// run, and reports whether it was this call that did it.
func (p *power) cut() (first bool) {
	p.once.Do(func() {
		first = true
		close(p.dead)
		p.mu.Lock()
		defer p.mu.Unlock()
	})
	return first
}

// on reports whether there is power. The caller holds mu.
func (p *power) on() bool {
	select {
	case <-p.dead:
		return false
	default:
		return true
	}
}

// request is one request while it runs: the inode it is about, and whether to lie.
type request struct {
	m   *mount
	i   *disk.Inode
	lie bool
}

// begin meets the faults and takes the power; the caller ends the request. name
// is an entry of node that it is about, or "".
func (m *mount) begin(node uint64, name string, op operation, cancel <-chan struct{}) (*request, fuse.Status) {
	i, err := m.disk.Get(node)
	if err != nil {
		return nil, status(err)
	}
	op.drive = m.drive
	op.paths = func() []string {
		ps := i.Paths()
		for n := range ps {
			ps[n] = path.Join(ps[n], name)
		}
		return ps
	}
	lie, err := m.faults.meet(op, cancel, m.power.dead)
	if err != nil {
		return nil, status(err)
	}
	m.power.mu.RLock()
	if !m.power.on() {
		m.power.mu.RUnlock()
		return nil, fuse.EIO
	}
	return &request{m, i, lie}, fuse.OK
}

func (r *request) end() { r.m.power.mu.RUnlock() }

// status turns an error into an errno: of the backing file system's errors, that
// it is full is passed on.
func status(err error) fuse.Status {
	var e syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &e):
		return fuse.Status(e)
	}
	return fuse.EIO
}

func (m *mount) String() string { return "powerfs" }

// Init implements fuse.RawFileSystem.
func (m *mount) Init(s *fuse.Server) { m.server = s }

// Forget implements fuse.RawFileSystem.
func (m *mount) Forget(node, n uint64) {
	m.power.mu.RLock()
	defer m.power.mu.RUnlock()
	if m.power.on() {
		m.disk.Forget(node, n)
	}
}

func fillAttr(out *fuse.Attr, st disk.Stat) {
	ns := func(t time.Time) (uint64, uint32) { return uint64(t.Unix()), uint32(t.Nanosecond()) }
	out.Ino, out.Size, out.Mode, out.Nlink = st.No, uint64(st.Size), st.Mode, st.Nlink
	out.Blocks, out.Blksize = (out.Size+511)/512, disk.PageSize
	out.Uid, out.Gid = st.UID, st.GID
	out.Atime, out.Atimensec = ns(st.Atime)
	out.Mtime, out.Mtimensec = ns(st.Mtime)
	out.Ctime, out.Ctimensec = ns(st.Ctime)
}

func fillEntry(out *fuse.EntryOut, st disk.Stat) {
	out.NodeId, out.Generation = st.No, 1
	fillAttr(&out.Attr, st)
}

// GetAttr implements fuse.RawFileSystem.
func (m *mount) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Meta}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	fillAttr(&out.Attr, r.i.Stat())
	return fuse.OK
}

// SetAttr implements fuse.RawFileSystem.
func (m *mount) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	op := operation{class: Meta, changes: true}
	size, sized := in.GetSize()
	if sized {
		op.class = Write
	}
	r, st := m.begin(in.NodeId, "", op, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	if sized {
		if err := r.i.Truncate(int64(size)); err != nil {
			return status(err)
		}
	}
	r.i.Update(func(a *disk.Attr) { setAttr(a, in) })
	fillAttr(&out.Attr, r.i.Stat())
	return fuse.OK
}

func setAttr(a *disk.Attr, in *fuse.SetAttrIn) {
	if mode, ok := in.GetMode(); ok {
		a.Mode = a.Mode&^0o7777 | mode
	}
	if uid, ok := in.GetUID(); ok {
		a.UID = uid
	}
	if gid, ok := in.GetGID(); ok {
		a.GID = gid
	}
	if t, ok := in.GetATime(); ok {
		a.Atime = t
	}
	if t, ok := in.GetMTime(); ok {
		a.Mtime = t
	}
	a.Ctime = time.Now()
	if t, ok := in.GetCTime(); ok {
		a.Ctime = t
	}
}

// StatFs implements fuse.RawFileSystem: the backing file system's space.
func (m *mount) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r, st := m.begin(in.NodeId, "", operation{class: Meta}, cancel)
	if !st.Ok() {
		return st
	}
	defer r.end()
	fs, err := m.disk.Statfs()
	if err != nil {
		return status(err)
	}
	out.FromStatfsT(&fs)
	if m.faults.full(m.drive) {
		out.Bfree, out.Bavail = 0, 0
	}
	return fuse.OK
}

// Access implements fuse.RawFileSystem: the kernel checks (default_permissions).
func (m *mount) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }
