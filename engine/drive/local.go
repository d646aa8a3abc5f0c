package drive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// Options say how to open a drive. Path is all that must be given.
type Options struct {
	FS     vfs.FS       // the operating system's, when nil
	Path   string       // the drive's directory
	Logger *slog.Logger // none, when nil

	// ID is the drive that is expected there; another one is errs.Invalid. Zero:
	// any.
	ID twofold.DriveID
	// Reserve is the free space, in bytes, below which no shard is written, so that
	// the metadata on the same file system can always commit deletes. 0: 1 % of the
	// file system but at least 256 MiB and at most a tenth of it. Negative: none.
	Reserve int64
	// Deadline is how long an operation may take before its caller gets
	// errs.Unavailable and the drive is offline; an fsync may take three times as
	// long. 0: 10 s.
	Deadline time.Duration
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Deadline == 0 {
		o.Deadline = 10 * time.Second
	}
}

// Local is a drive in a directory of this machine. Its I/O never holds a caller up
// for longer than its deadline. A Local that was lost comes back as the same Local,
// when the Monitor finds the same drive at its path again.
type Local struct {
	opt    Options
	fs     vfs.FS
	format Format
	health health
	guard  *guard // of the operations
	probes *guard // of the monitor's own, which run also while the drive is offline

	identity atomic.Pointer[identity]
	tmpSeq   atomic.Uint64
	lastGood atomic.Int64 // Unix nanoseconds of the last successful fsync
	dirs     [fanOut]fanDir
	blobsDir dirSync
	fansMade atomic.Int32  // by this process, when first needed
	fansDone chan struct{} // closed when makeFans has ended
	buffers  buffers

	mu   sync.Mutex
	lock io.Closer // guarded by mu; nil while the drive is lost or closed
}

// fanOut is the number of directories of shards. A shard's directory is named after
// its blob id's last byte, the low one of the session's counter, so that blobs made
// one after the other spread.
const fanOut = 256

// fanAhead is how many of them are made when first needed, each with an fsync; then
// the drive is in use, and the rest is made at once, on the side. All at start would
// take a second of a busy disk.
const fanAhead = 8

// fanDir is one of them.
type fanDir struct {
	dirSync
	made atomic.Bool // it is there, durably, as far as this process knows
}

var _ Drive = (*Local)(nil)

// identity is by what a path is recognised, at the price of one stat, to be still
// the drive that was opened there.
type identity struct {
	dev    uint64   // st_dev of the drive's directory
	fsid   uint64   // f_fsid of its file system
	mount  bool     // the directory is a mount point
	format vfs.Info // of format.json
}

// FileSystem is the device number of the drive's file system: drives that share one
// share its space.
func (d *Local) FileSystem() uint64 {
	if id := d.identity.Load(); id != nil {
		return id.dev
	}
	return 0
}

// Open opens the drive at a path, which WriteFormat made one: locks it against other
// processes, completes its directories and removes unfinished shards. It returns by
// its deadline, or by ctx's. errs.NotFound: no drive there (a fresh directory);
// errs.Busy: another process has it; others as for ReadFormat. A drive that can't
// be written opens and is Suspect.
func Open(ctx context.Context, opt Options) (*Local, error) {
	opt.defaults()
	d := &Local{opt: opt, fs: opt.FS, guard: newGuard(opt.Path), probes: newGuard(opt.Path), fansDone: make(chan struct{})}
	d.health.log, d.health.guard = opt.Logger, d.guard
	d.guard.onHung = d.health.hungChanged
	err := d.probes.run(ctx, "drive.Open", 3*opt.Deadline, d.attach, func() { d.release() })
	if err != nil {
		return nil, err
	}
	d.health.change("opened", func() {})
	return d, nil
}

// attach makes the drive found at the path this one's: at Open, and when it came
// back after it was lost.
func (d *Local) attach() error {
	const op = "drive.Open"
	f, err := ReadFormat(d.fs, d.opt.Path)
	if err != nil {
		return err
	}
	want := d.opt.ID
	if !d.format.Drive.IsZero() {
		want = d.format.Drive
	}
	if !want.IsZero() && want != f.Drive {
		return errs.Newf(op, errs.Invalid, "%s has drive %s, expected %s", d.opt.Path, f.Drive, want)
	}
	lock, err := lockDrive(d.fs, d.opt.Path)
	if err != nil {
		return err
	}
	id, err := d.look()
	if err == nil {
		err = d.layout()
	}
	readOnly := errs.Is(err, errs.ReadOnly)
	healing := false
	if err == nil || readOnly {
		healing, err = d.readHealing()
	}
	if err != nil {
		lock.Close()
		return errs.E(op, kindOf(err), err)
	}
	d.mu.Lock()
	d.lock = lock
	d.mu.Unlock()
	if d.format.Drive.IsZero() { // else it is the same, and others read it
		d.format = f
	}
	d.identity.Store(&id)
	d.health.change("attached", func() { d.health.healing, d.health.readOnly = healing, readOnly })
	if _, err := d.space(0); err != nil && !errs.Is(err, errs.NoSpace) {
		d.release()
		return errs.E(op, kindOf(err), err)
	}
	return nil
}

// layout makes what is missing of the drive's directories and empties tmp. It syncs
// also what it finds: a process that was killed may have made that and not synced
// it. errs.ReadOnly where something had to be made and can't be.
func (d *Local) layout() error {
	const op = "drive.layout"
	blobs := path.Join(d.opt.Path, blobsDir)
	for _, dir := range []string{blobs, path.Join(d.opt.Path, tmpDir)} {
		if err := d.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return errs.E(op, kindOf(err), err)
		}
	}
	var have [fanOut]bool
	err := d.fs.List(blobs, func(e vfs.Entry) error {
		for i := range fanOut {
			if e.Name == fmt.Sprintf("%02x", i) {
				have[i] = true
			}
		}
		return nil
	})
	for _, dir := range []string{blobs, d.opt.Path} {
		if err == nil {
			err = d.fs.SyncDir(dir)
		}
	}
	if err != nil {
		return errs.E(op, kindOf(err), err)
	}
	for i := range fanOut {
		d.dirs[i].made.Store(have[i])
	}
	return d.emptyTmp()
}

// makeFan makes a directory of shards, durably, unless it was made before.
func (d *Local) makeFan(fan int, dir string) error {
	if d.dirs[fan].made.Load() {
		return nil
	}
	if err := d.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.blobsDir.sync(d.fs, path.Dir(dir)); err != nil {
		return err
	}
	d.dirs[fan].made.Store(true)
	if d.fansMade.Add(1) == fanAhead {
		go d.makeFans()
	}
	return nil
}

// makeFans makes what is missing of the directories of shards, with one fsync for
// all. It stops when the drive goes offline. Its errors are found again by who needs
// the directory. Runs once.
func (d *Local) makeFans() {
	defer close(d.fansDone)
	gen := d.health.gen.Load()
	blobs := path.Join(d.opt.Path, blobsDir)
	var made []int
	for i := range fanOut {
		if d.dirs[i].made.Load() {
			continue
		}
		if d.State() == Offline {
			return
		}
		err := d.fs.Mkdir(fmt.Sprintf("%s/%02x", blobs, i))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return
		}
		made = append(made, i)
	}
	if err := d.blobsDir.sync(d.fs, blobs); err != nil || d.health.gen.Load() != gen {
		return
	}
	for _, i := range made {
		d.dirs[i].made.Store(true)
	}
}

func (d *Local) emptyTmp() error {
	tmp := path.Join(d.opt.Path, tmpDir)
	var names []string
	err := d.fs.List(tmp, func(e vfs.Entry) error {
		if !e.Dir {
			names = append(names, e.Name)
		}
		return nil
	})
	for _, n := range names {
		if err == nil {
			err = d.fs.Remove(path.Join(tmp, n))
		}
	}
	if err != nil {
		return errs.E("drive.layout", kindOf(err), err)
	}
	return nil
}

// Close gives the drive up: it is Offline from here on, and another process may open
// it. Operations under way fail.
func (d *Local) Close() error {
	d.health.change("closed", func() { d.health.closed = true })
	if d.fansMade.Load() >= fanAhead {
		select { // the state told it to stop; it may hang in the file system
		case <-d.fansDone:
		case <-time.After(time.Second):
		}
	}
	return d.release()
}

// release gives the lock back, so that a lost file system can be unmounted.
func (d *Local) release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock == nil {
		return nil
	}
	l := d.lock
	d.lock = nil
	return l.Close()
}

// ID is the drive's id, from its format file.
func (d *Local) ID() twofold.DriveID { return d.format.Drive }

// Format is what the drive's format file says.
func (d *Local) Format() Format { return d.format }

// Path is the drive's directory.
func (d *Local) Path() string { return d.opt.Path }

func (d *Local) String() string { return d.opt.Path }

// State is what the drive can do now.
func (d *Local) State() State { return d.health.State() }

// MetaPath is the directory that belongs to the metadata replica on this drive. It
// is not made here.
func (d *Local) MetaPath() string { return path.Join(d.opt.Path, MetaDir) }

// blobPath is where a committed shard is, and which directory that is.
func (d *Local) blobPath(b twofold.BlobID) (name, dir string, fan int) {
	fan = int(b[len(b)-1])
	dir = fmt.Sprintf("%s/%s/%02x", d.opt.Path, blobsDir, fan)
	return dir + "/" + b.String(), dir, fan
}

// fail turns an error of the file system into this drive's, and counts it against
// the drive where it speaks against it.
func (d *Local) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *errs.Error
	if errors.As(err, &e) {
		return err
	}
	k := kindOf(err)
	switch {
	case k == errs.ReadOnly:
		d.health.change(err.Error(), func() { d.health.readOnly = true })
	case k == errs.NoSpace:
		d.health.setFull(true)
	case isDriveFault(err):
		k = errs.Unavailable
		d.health.change(err.Error(), func() { d.health.faults++ })
	}
	return errs.E(op, k, err)
}

// Delete removes the blob's shard, see Drive.
func (d *Local) Delete(ctx context.Context, b twofold.BlobID) error {
	const op = "drive.Delete"
	return d.guard.run(ctx, op, d.opt.Deadline, func() error {
		name, _, _ := d.blobPath(b)
		err := d.fs.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			err = d.still(op)
		}
		return d.fail(op, err)
	}, nil)
}

// Usage tells the space of the drive's file system.
func (d *Local) Usage(ctx context.Context) (Usage, error) {
	const op = "drive.Usage"
	var u vfs.FSInfo
	err := d.guard.run(ctx, op, d.opt.Deadline, func() (err error) {
		if err = d.still(op); err == nil {
			u, err = d.fs.StatFS(d.opt.Path)
		}
		return d.fail(op, err)
	}, nil)
	if err != nil {
		return Usage{}, err
	}
	free := uint64(0) // of the reserve nothing is
	if r := d.reserve(u.Total); u.Free > r {
		free = u.Free - r
	}
	return Usage{Total: u.Total, Free: free}, nil
}
