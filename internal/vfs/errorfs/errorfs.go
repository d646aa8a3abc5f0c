// Package errorfs wraps a file system so that chosen operations fail, or hang, and
// so that a test sees every operation before it happens.
package errorfs

import (
	"io"
	"io/fs"
	"strings"
	"sync"

	"twofold/internal/vfs"
)

// Op is a set of kinds of operations.
type Op uint32

const (
	Open Op = 1 << iota
	Create
	Mkdir
	Rename
	Link
	Remove
	List
	Stat
	SyncDir
	StatFS
	Lock
	Read
	Write
	Sync
	Close

	// Writes are the operations that change something.
	Writes = Create | Mkdir | Rename | Link | Remove | Write | Sync | SyncDir
	// All is every operation.
	All = 1<<iota - 1
)

// Rule says which operations fail or hang, and how.
type Rule struct {
	Ops  Op
	Path string // only on names that contain this; empty: all
	Skip int    // let so many of them pass first
	// Times is how many then are hit; 0: all.
	Times int
	Err   error // what they fail with, a syscall.Errno; nil: they work (after a Hang)
	Hang  bool  // they wait until the rule is removed
	// Partial, for Write with Err: the first half is written before the failure.
	Partial bool
}

// FS is the wrapper.
type FS struct {
	inner vfs.FS

	mu    sync.Mutex
	rules []*Injection
	onOp  func(n int, op Op, name string)
	n     int // operations so far
}

var (
	_ vfs.FS   = (*FS)(nil)
	_ vfs.File = (*file)(nil)
)

// New wraps inner; nothing fails yet.
func New(inner vfs.FS) *FS { return &FS{inner: inner} }

// OnOp has fn called before each operation, with its number from 1. fn may use the
// inner file system.
func (f *FS) OnOp(fn func(n int, op Op, name string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onOp = fn
}

// Ops is the number of operations so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Injection is a rule at work.
type Injection struct {
	fs   *FS
	rule Rule
	gone chan struct{} // closed by Remove
	seen int           // operations that matched; guarded by fs.mu
	hits int           // those that were hit; guarded by fs.mu
	once sync.Once
}

// Inject puts a rule to work. Of several that match the first decides.
func (f *FS) Inject(r Rule) *Injection {
	i := &Injection{fs: f, rule: r, gone: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, i)
	return i
}

// Remove ends the rule, and lets what hangs go on.
func (i *Injection) Remove() {
	i.once.Do(func() { close(i.gone) })
}

// Hits is how many operations the rule has hit.
func (i *Injection) Hits() int {
	i.fs.mu.Lock()
	defer i.fs.mu.Unlock()
	return i.hits
}

func (i *Injection) removed() bool {
	select {
	case <-i.gone:
		return true
	default:
		return false
	}
}

// before counts an operation and returns the rule that hits it, or nil. It waits
// where the rule hangs.
func (f *FS) before(op Op, name string) *Rule {
	f.mu.Lock()
	f.n++
	n, onOp := f.n, f.onOp
	var hit *Injection
	for _, i := range f.rules {
		if i.removed() || i.rule.Ops&op == 0 || !strings.Contains(name, i.rule.Path) {
			continue
		}
		i.seen++
		if i.seen > i.rule.Skip && (i.rule.Times == 0 || i.hits < i.rule.Times) {
			i.hits++
			hit = i
			break
		}
	}
	f.mu.Unlock()
	if onOp != nil {
		onOp(n, op, name)
	}
	if hit == nil {
		return nil
	}
	if hit.rule.Hang {
		<-hit.gone
	}
	return &hit.rule
}

// check is before for operations that fail whole.
func (f *FS) check(op Op, what, name string) error {
	if r := f.before(op, name); r != nil && r.Err != nil {
		return &fs.PathError{Op: what, Path: name, Err: r.Err}
	}
	return nil
}

func (f *FS) wrap(inner vfs.File, err error, name string) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &file{fs: f, inner: inner, name: name}, nil
}

// Open, and all that follow, pass the call on unless a rule hits it.
func (f *FS) Open(name string) (vfs.File, error) {
	if err := f.check(Open, "open", name); err != nil {
		return nil, err
	}
	in, err := f.inner.Open(name)
	return f.wrap(in, err, name)
}

func (f *FS) Create(name string) (vfs.File, error) {
	if err := f.check(Create, "open", name); err != nil {
		return nil, err
	}
	in, err := f.inner.Create(name)
	return f.wrap(in, err, name)
}

func (f *FS) CreateDirect(name string) (vfs.File, error) {
	if err := f.check(Create, "open", name); err != nil {
		return nil, err
	}
	in, err := f.inner.CreateDirect(name)
	return f.wrap(in, err, name)
}

func (f *FS) Mkdir(name string) error {
	if err := f.check(Mkdir, "mkdir", name); err != nil {
		return err
	}
	return f.inner.Mkdir(name)
}

func (f *FS) Rename(oldname, newname string) error {
	if err := f.check(Rename, "rename", newname); err != nil {
		return err
	}
	return f.inner.Rename(oldname, newname)
}

func (f *FS) Link(oldname, newname string) error {
	if err := f.check(Link, "link", newname); err != nil {
		return err
	}
	return f.inner.Link(oldname, newname)
}

func (f *FS) Remove(name string) error {
	if err := f.check(Remove, "remove", name); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

func (f *FS) List(name string, fn func(vfs.Entry) error) error {
	if err := f.check(List, "list", name); err != nil {
		return err
	}
	return f.inner.List(name, fn)
}

func (f *FS) Stat(name string) (vfs.Info, error) {
	if err := f.check(Stat, "stat", name); err != nil {
		return vfs.Info{}, err
	}
	return f.inner.Stat(name)
}

func (f *FS) SyncDir(name string) error {
	if err := f.check(SyncDir, "fsync", name); err != nil {
		return err
	}
	return f.inner.SyncDir(name)
}

func (f *FS) StatFS(name string) (vfs.FSInfo, error) {
	if err := f.check(StatFS, "statfs", name); err != nil {
		return vfs.FSInfo{}, err
	}
	return f.inner.StatFS(name)
}

func (f *FS) Lock(name string) (io.Closer, error) {
	if err := f.check(Lock, "lock", name); err != nil {
		return nil, err
	}
	return f.inner.Lock(name)
}

// file is an open file of the wrapper.
type file struct {
	fs    *FS
	inner vfs.File
	name  string
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(Read, "read", f.name); err != nil {
		return 0, err
	}
	return f.inner.ReadAt(p, off)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	r := f.fs.before(Write, f.name)
	if r == nil || r.Err == nil {
		return f.inner.WriteAt(p, off)
	}
	n := 0
	if r.Partial {
		n, _ = f.inner.WriteAt(p[:len(p)/2], off) // it fails either way
	}
	return n, &fs.PathError{Op: "write", Path: f.name, Err: r.Err}
}

func (f *file) Sync() error {
	if err := f.fs.check(Sync, "fsync", f.name); err != nil {
		return err
	}
	return f.inner.Sync()
}

func (f *file) Stat() (vfs.Info, error) {
	if err := f.fs.check(Stat, "fstat", f.name); err != nil {
		return vfs.Info{}, err
	}
	return f.inner.Stat()
}

func (f *file) Close() error {
	err := f.fs.check(Close, "close", f.name)
	if e := f.inner.Close(); err == nil {
		err = e
	}
	return err
}
