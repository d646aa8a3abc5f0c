package fusefs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/locks"
)

// fakeVolume is a POSIX tree in memory that serves any number of sessions and
// recalls their leases from each other, as the volume does.
type fakeVolume struct {
	grace time.Duration // how long an inode without links and pins stays

	mu        sync.Mutex
	inodes    map[twofold.Ino]*fakeInode
	last      twofold.Ino
	token     uint64
	clock     twofold.Time
	changing  map[key]int // what is about to change: it is not leased
	writes    int         // api.Write calls that were committed, and those in batches
	batches   int         // api.Batch calls that were
	quick     bool        // batches can not be taken back, nothing has two names: for benchmarks
	mostOps   int         // of a batch: more is errs.TooLarge, of one operation; 0: any
	rootLease bool        // the root may be leased as any directory
	room      int64       // bytes that can be written or promised
	quota     int64       // bytes that all files may have; 0: any
	locks     *locks.Table

	sessions twofold.SessionID // how many there were
}

type fakeInode struct {
	attr    api.Attr
	data    []byte
	sink    bool // forget the bytes, keep the size
	unnamed bool // of Tmpfile
	entries map[string]twofold.Ino
	sorted  []string // names of entries; of another length while outdated
	parent  twofold.Ino
	xattrs  map[string][]byte
	target  string
	pins    map[*fakeSession]int
	holder  *fakeSession
	token   uint64
	readers map[*fakeSession]bool
	reserve int64
}

func newFakeVolume() *fakeVolume {
	v := &fakeVolume{inodes: make(map[twofold.Ino]*fakeInode), last: twofold.FirstIno, room: 1 << 50, changing: make(map[key]int)}
	v.locks = locks.New(locks.Options{
		Term: time.Minute, Log: slog.New(slog.DiscardHandler),
		Ready: func(context.Context) error { return nil }, IsReady: func() bool { return false },
	})
	root := v.add(api.Create{Type: metadata.TypeDir, Mode: 0755}, twofold.RootIno)
	root.attr.Nlink = 2
	return v
}

// now is a clock that never shows the same time twice.
func (v *fakeVolume) now() twofold.Time {
	v.clock = max(v.clock+1, twofold.Now())
	return v.clock
}

func (v *fakeVolume) add(c api.Create, ino twofold.Ino) *fakeInode {
	if ino == 0 {
		v.last++
		ino = v.last
	}
	now := v.now()
	in := &fakeInode{
		attr: api.Attr{
			Ino: ino, Type: c.Type, Mode: c.Mode, UID: c.UID, GID: c.GID, Rdev: c.Rdev,
			ModeSet: true, UIDSet: true, GIDSet: true, Nlink: 1, Version: 1,
			Atime: now, Mtime: now, Ctime: now, Btime: now, Size: int64(len(c.Target)),
		},
		target: c.Target,
		xattrs: make(map[string][]byte),
		pins:   make(map[*fakeSession]int),

		readers: make(map[*fakeSession]bool),
	}
	if c.Type == metadata.TypeDir {
		in.entries = make(map[string]twofold.Ino)
		in.attr.Nlink = 2
	}
	v.inodes[ino] = in
	return in
}

func fail(k errs.Kind) error { return errs.E("fake", k, nil) }

// get needs v.mu.
func (v *fakeVolume) get(ino twofold.Ino) (*fakeInode, error) {
	in := v.inodes[ino]
	if in == nil {
		return nil, fail(errs.Stale)
	}
	return in, nil
}

func (v *fakeVolume) dir(ino twofold.Ino) (*fakeInode, error) {
	in, err := v.get(ino)
	if err == nil && in.entries == nil {
		return nil, fail(errs.NotDir)
	}
	return in, err
}

func (v *fakeVolume) entry(dir twofold.Ino, name string) (*fakeInode, *fakeInode, error) {
	d, err := v.dir(dir)
	if err != nil {
		return nil, nil, err
	}
	in := v.inodes[d.entries[name]]
	if in == nil {
		return d, nil, fail(errs.NotFound)
	}
	return d, in, nil
}

func (v *fakeVolume) changed(d *fakeInode) { d.attr.Mtime = v.now(); d.attr.Ctime = d.attr.Mtime }

func (v *fakeVolume) link(d *fakeInode, name string, in *fakeInode) {
	d.entries[name], d.sorted = in.attr.Ino, nil
	in.parent = d.attr.Ino
	if in.entries != nil {
		d.attr.Nlink++
	}
	v.changed(d)
}

// drop removes a name, and the inode with its last one.
func (v *fakeVolume) drop(d *fakeInode, name string, in *fakeInode) {
	delete(d.entries, name)
	d.sorted = nil
	v.changed(d)
	in.attr.Ctime = v.now()
	if in.entries != nil {
		d.attr.Nlink--
		in.attr.Nlink = 0
	} else {
		in.attr.Nlink--
	}
	v.free(in)
}

func (v *fakeVolume) free(in *fakeInode) {
	if in.attr.Nlink > 0 || len(in.pins) > 0 {
		return
	}
	if v.grace == 0 {
		delete(v.inodes, in.attr.Ino)
		return
	}
	time.AfterFunc(v.grace, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(in.pins) == 0 && in.attr.Nlink == 0 {
			delete(v.inodes, in.attr.Ino)
		}
	})
}

// fakeSession is one mount's, or somebody else's, view of the volume.
type fakeSession struct {
	v        *fakeVolume
	id       twofold.SessionID
	holder   api.Holder
	promised int64        // v.mu
	flags    func(uint32) // v.mu: sees those of SetXattr
	caches   bool         // takes read leases

	mu     sync.Mutex
	silent time.Time                              // when its leases end, if they shall
	hook   func(op string, ino twofold.Ino) error // before an operation; may wait or fail
	after  func(op string)                        // when a change is done, before it is answered
	ops    map[string]int
}

var _ api.Files = (*fakeSession)(nil)

func (v *fakeVolume) session() *fakeSession {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sessions++
	return &fakeSession{v: v, id: v.sessions, ops: make(map[string]int)}
}

func (s *fakeSession) setHook(h func(op string, ino twofold.Ino) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = h
}

func (s *fakeSession) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops[op]
}

func (s *fakeSession) before(op string, ino twofold.Ino) error {
	s.mu.Lock()
	s.ops[op]++
	h := s.hook
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	return h(op, ino)
}

// recall takes the write lease from whoever else has it, and returns with v.mu held.
// The error is that of a holder that keeps it, or of a recall that nobody waits for
// any more.
func (s *fakeSession) recall(ctx context.Context, ino twofold.Ino) error {
	v := s.v
	v.mu.Lock()
	for {
		in := v.inodes[ino]
		if in == nil || in.holder == nil || in.holder == s {
			return nil
		}
		h, token := in.holder, in.token
		v.mu.Unlock()
		var err error
		if h.holder != nil {
			err = h.holder.Recall(ctx, ino, token)
		}
		v.mu.Lock()
		if (errs.Is(err, errs.Unwritten) || ctx.Err() != nil) && in.holder == h && in.token == token {
			return err // it keeps the lease, or who asked has gone: nothing is known
		}
		if in.holder == h && in.token == token {
			in.holder = nil // given back, or fenced off
		}
	}
}

func (s *fakeSession) Lookup(ctx context.Context, dir twofold.Ino, name string) (api.Attr, error) {
	if err := s.before("Lookup", dir); err != nil {
		return api.Attr{}, err
	}
	for {
		s.v.mu.Lock()
		s.alone(ctx, itself(dir)())
		d, in, err := s.v.entry(dir, name)
		if errs.Is(err, errs.NotFound) && d.attr.Nlink > 0 {
			if a := s.grantName(d, name, nil); a.NameLeased {
				err = nil
				s.v.mu.Unlock()
				return a, nil
			}
		}
		s.v.mu.Unlock()
		if err != nil {
			return api.Attr{}, err
		}
		if err := s.recall(ctx, in.attr.Ino); err != nil {
			s.v.mu.Unlock()
			return api.Attr{}, err
		}
		dropped := s.alone(ctx, itself(dir, in.attr.Ino)())
		d, again, err := s.v.entry(dir, name)
		if err == nil && again == in && !dropped {
			a := s.grantName(d, name, in)
			s.v.mu.Unlock()
			return a, s.before("lookedup", dir) // a hook can hold the answer up
		}
		s.v.mu.Unlock()
	}
}

func (s *fakeSession) GetAttr(ctx context.Context, ino twofold.Ino) (api.Attr, error) {
	if err := s.before("GetAttr", ino); err != nil {
		return api.Attr{}, err
	}
	err := s.recall(ctx, ino)
	if err != nil {
		s.v.mu.Unlock()
		return api.Attr{}, err
	}
	if s.alone(ctx, itself(ino)()) {
		s.v.mu.Unlock()
		return s.GetAttr(ctx, ino)
	}
	in, err := s.v.get(ino)
	if err != nil {
		s.v.mu.Unlock()
		return api.Attr{}, err
	}
	a := s.grant(in)
	s.v.mu.Unlock()
	return a, s.before("gotattr", ino) // a hook can hold the answer up
}

func (s *fakeSession) SetAttr(ctx context.Context, ino twofold.Ino, c api.SetAttr) (api.Attr, error) {
	if err := s.before("SetAttr", ino); err != nil {
		return api.Attr{}, err
	}
	defer s.answer("SetAttr")
	defer s.change(ctx, ino, itself(ino))()
	in, err := s.v.get(ino)
	if err != nil {
		return api.Attr{}, err
	}
	if c.Token != 0 && (in.holder != s || in.token != c.Token) {
		return api.Attr{}, fail(errs.Fenced)
	}
	set(&in.attr.Mode, c.Mode)
	set(&in.attr.UID, c.UID)
	set(&in.attr.GID, c.GID)
	if c.Mode == nil && in.entries == nil && (c.KillPriv || c.UID != nil || c.GID != nil) {
		in.attr.Mode = withoutSetID(in.attr.Mode)
	}
	in.attr.Ctime = s.v.now()
	if c.Size != nil {
		in.resize(*c.Size)
		in.attr.Version++
		in.attr.ETag = "opaque"
		in.attr.Mtime = in.attr.Ctime
	}
	set(&in.attr.Atime, c.Atime)
	set(&in.attr.Mtime, c.Mtime)
	a := in.attr
	a.Leased = in.readers[s]
	return a, nil
}

func set[T any](to, v *T) {
	if v != nil {
		*to = *v
	}
}

func (in *fakeInode) resize(size int64) {
	in.attr.Size = size
	if in.sink {
		return
	}
	if size <= int64(len(in.data)) {
		clear(in.data[size:])
		in.data = in.data[:size]
	} else {
		in.data = append(in.data, make([]byte, size-int64(len(in.data)))...)
	}
	in.attr.Stored = int64(len(in.data))
}

func (s *fakeSession) Create(ctx context.Context, dir twofold.Ino, name string, c api.Create) (api.Attr, bool, error) {
	if err := s.before("Create", dir); err != nil {
		return api.Attr{}, false, err
	}
	defer s.answer("Create")
	defer s.change(ctx, 0, s.v.named(key{dir, name}))()
	d, in, err := s.v.entry(dir, name)
	if err == nil {
		if c.Exclusive || in.attr.Type != metadata.TypeFile {
			return api.Attr{}, false, fail(errs.Exists)
		}
		return in.attr, true, nil
	}
	if !errs.Is(err, errs.NotFound) {
		return api.Attr{}, false, err
	}
	if d.attr.Nlink == 0 {
		return api.Attr{}, false, fail(errs.NotFound)
	}
	in = s.v.add(c, 0)
	s.v.link(d, name, in)
	a := s.grant(in)
	a.NameLeased = d.readers[s]
	s.tellDirs(ctx, d)
	return a, false, nil
}

func (s *fakeSession) Tmpfile(ctx context.Context, dir twofold.Ino, c api.Create) (api.Attr, error) {
	if err := s.before("Tmpfile", dir); err != nil {
		return api.Attr{}, err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	if _, err := s.v.dir(dir); err != nil {
		return api.Attr{}, err
	}
	in := s.v.add(c, 0)
	in.attr.Nlink, in.unnamed = 0, true
	return in.attr, nil
}

func (s *fakeSession) Link(ctx context.Context, ino, dir twofold.Ino, name string) (api.Attr, error) {
	if err := s.before("Link", ino); err != nil {
		return api.Attr{}, err
	}
	defer s.change(ctx, ino, func() []api.Stale {
		return append(s.v.named(key{dir, name})(), api.Stale{Ino: ino})
	})()
	in, err := s.v.get(ino)
	if err != nil {
		return api.Attr{}, err
	}
	d, _, err := s.v.entry(dir, name)
	if err == nil {
		return api.Attr{}, fail(errs.Exists)
	}
	if !errs.Is(err, errs.NotFound) {
		return api.Attr{}, err
	}
	if in.attr.Nlink == 0 && !in.unnamed || d.attr.Nlink == 0 {
		return api.Attr{}, fail(errs.NotFound)
	}
	in.unnamed = false
	in.attr.Nlink++
	in.attr.Ctime = s.v.now()
	s.v.link(d, name, in)
	return in.attr, nil
}

func (s *fakeSession) Unlink(ctx context.Context, dir twofold.Ino, name string) error {
	if err := s.before("Unlink", dir); err != nil {
		return err
	}
	defer s.answer("Unlink")
	defer s.change(ctx, 0, s.v.named(key{dir, name}))()
	d, in, err := s.v.entry(dir, name)
	if err != nil {
		return err
	}
	if in.entries != nil {
		return fail(errs.IsDir)
	}
	s.v.drop(d, name, in)
	s.tellDirs(ctx, d)
	return nil
}

func (s *fakeSession) Rmdir(ctx context.Context, dir twofold.Ino, name string) error {
	if err := s.before("Rmdir", dir); err != nil {
		return err
	}
	defer s.answer("Rmdir")
	defer s.change(ctx, 0, s.v.named(key{dir, name}))()
	d, in, err := s.v.entry(dir, name)
	if err != nil {
		return err
	}
	if in.entries == nil {
		return fail(errs.NotDir)
	}
	if len(in.entries) > 0 {
		return fail(errs.NotEmpty)
	}
	s.v.drop(d, name, in)
	s.tellDirs(ctx, d)
	return nil
}

func (s *fakeSession) Rename(ctx context.Context, oldDir twofold.Ino, oldName string, newDir twofold.Ino, newName string, flags uint32) error {
	if err := s.before("Rename", oldDir); err != nil {
		return err
	}
	defer s.change(ctx, 0, s.v.named(key{oldDir, oldName}, key{newDir, newName}))()
	od, in, err := s.v.entry(oldDir, oldName)
	if err != nil {
		return err
	}
	nd, over, err := s.v.entry(newDir, newName)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if nd.attr.Nlink == 0 {
		return fail(errs.NotFound)
	}
	if flags == 1 && over != nil { // first, as the volume does
		return fail(errs.Exists)
	}
	for p := nd; in.entries != nil && p != nil && p.attr.Ino != twofold.RootIno; p = s.v.inodes[p.parent] {
		if p == in {
			return fail(errs.Loop)
		}
	}
	switch {
	case flags == 1 && over != nil:
		return fail(errs.Exists)
	case flags == 2:
		if over == nil {
			return fail(errs.NotFound)
		}
		od.entries[oldName], nd.entries[newName] = over.attr.Ino, in.attr.Ino
		return nil
	case flags > 2:
		return fail(errs.NotSupportedRename)
	case over == in:
		return nil
	case over != nil && in.entries == nil && over.entries != nil:
		return fail(errs.IsDir)
	case over != nil && in.entries != nil && over.entries == nil:
		return fail(errs.NotDir)
	case over != nil && len(over.entries) > 0:
		return fail(errs.NotEmpty)
	}
	if over != nil {
		s.v.drop(nd, newName, over)
	}
	delete(od.entries, oldName)
	od.sorted = nil
	s.v.changed(od)
	if in.entries != nil {
		od.attr.Nlink--
	}
	s.v.link(nd, newName, in)
	in.attr.Ctime = s.v.now()
	s.tellDirs(ctx, od, nd)
	return nil
}

func (s *fakeSession) Readlink(ctx context.Context, ino twofold.Ino) (string, error) {
	if err := s.before("Readlink", ino); err != nil {
		return "", err
	}
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	in, err := s.v.get(ino)
	if err != nil {
		return "", err
	}
	if in.attr.Type != metadata.TypeSymlink {
		return "", fail(errs.Invalid)
	}
	return in.target, nil
}

func (s *fakeSession) ReadDir(ctx context.Context, dir twofold.Ino, cursor string, most int, attrs bool) ([]api.DirEntry, bool, error) {
	if err := s.before("ReadDir", dir); err != nil {
		return nil, false, err
	}
	s.v.mu.Lock()
	return s.readDir(ctx, dir, cursor, most, attrs)
}

// readDir lists; v.mu is held, and is not on return.
func (s *fakeSession) readDir(ctx context.Context, dir twofold.Ino, cursor string, most int, attrs bool) ([]api.DirEntry, bool, error) {
	s.alone(ctx, itself(dir)())
	d, err := s.v.dir(dir)
	if err != nil {
		s.v.mu.Unlock()
		return nil, false, err
	}
	if len(d.sorted) != len(d.entries) {
		d.sorted = slices.Sorted(maps.Keys(d.entries))
	}
	names := d.sorted
	if cursor != "" { // a cursor is a letter and the name
		names = names[sort.Search(len(names), func(i int) bool { return names[i] > cursor[1:] }):]
	}
	eof := len(names) <= most
	if !eof {
		names = names[:most]
	}
	var list []api.DirEntry
	names = slices.Clone(names)
	for _, name := range names {
		in := s.v.inodes[d.entries[name]]
		if attrs && s.alone(ctx, itself(in.attr.Ino)()) {
			return s.readDir(ctx, dir, cursor, most, attrs)
		}
		if attrs && in.holder != nil && in.holder != s {
			s.v.mu.Unlock()
			if err := s.recall(ctx, in.attr.Ino); err != nil {
				s.v.mu.Unlock()
				return nil, false, err
			}
			return s.readDir(ctx, dir, cursor, most, attrs)
		}
		a := api.Attr{Ino: in.attr.Ino, Type: in.attr.Type}
		if attrs {
			a = s.grantName(d, name, in)
		}
		list = append(list, api.DirEntry{Name: name, Cursor: "c" + name, Attr: a})
	}
	s.v.mu.Unlock()
	return list, eof, nil
}
