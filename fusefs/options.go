package fusefs

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// fsName is what df(1) and /proc/mounts show behind "fuse." as type, and as source
// where Options.Source says nothing.
const fsName = "twofold"

// Options say where and how to mount. The zero value of each field but Mountpoint
// is a good default.
type Options struct {
	Mountpoint string      // an existing directory
	Root       twofold.Ino // the directory that is mounted; 0 is the one of all buckets
	Source     string      // what /proc/mounts shows as source; default "twofold"
	ReadOnly   bool
	AllowOther bool // users other than the one that mounts get in; the kernel checks permissions
	Suid, Dev  bool // obey set-id bits, device files; by default nosuid,nodev
	NoExec     bool // nothing in it can be executed

	// What inodes show that were never given an owner or a mode, such as S3 objects.
	UID, GID uint32
	Umask    uint32 // files are 0666, directories 0777, without these bits

	MaxDirty int64 // bytes of written data in memory before writers wait; default 256 MiB
	MaxAhead int64 // bytes read ahead in memory, where the kernel leaves that to the mount; default 64 MiB
	// Pages has large files that are opened for reading only read through the kernel's pages:
	// see paged.go, also for what that costs.
	Pages bool

	FlushAge time.Duration // written data is committed when it is this old; default 2 s

	// CachedUntil is when the session's read leases end, unless the server is heard of
	// again. Before, and behind an Invalidate, nothing is served from a cache. nil: there
	// are no read leases, and nothing is cached. It is called often, and must be quick.
	CachedUntil func() time.Time

	// WriteBehind makes changes of names in the mount's process, where the store lets it, and
	// commits them later: see package behind. It needs CachedUntil.
	WriteBehind bool

	Log *slog.Logger // default: discards

	noACL        bool          // as with a kernel that does no POSIX ACLs; for tests
	leastPaged   int64         // bytes of a file that may be read through the kernel's pages: leastPaged; for tests
	readTime     time.Duration // of a read(2) of pages: readTime; for tests
	throughPages bool          // as with a kernel that can't map files opened for direct I/O; for tests
	requests     io.Writer     // is told of each request of the kernel, a line as go-fuse has it; for tests
}

func (o *Options) setDefaults() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxDirty <= 0 {
		o.MaxDirty = 256 << 20
	}
	o.MaxDirty = min(o.MaxDirty, api.MaxPromise/2) // more would not be promised
	if o.MaxAhead <= 0 {
		o.MaxAhead = 64 << 20
	}
	if o.leastPaged == 0 {
		o.leastPaged = leastPaged
	}
	if o.readTime == 0 {
		o.readTime = readTime
	}
	if o.Source == "" {
		o.Source = fsName
	}
	if o.FlushAge <= 0 {
		o.FlushAge = 2 * time.Second
	}
	if o.Umask > 0777 {
		return errs.Newf("fusefs.Mount", errs.Invalid, "umask %#o has bits other than permissions", o.Umask)
	}
	abs, err := filepath.Abs(o.Mountpoint)
	if err != nil || o.Mountpoint == "" {
		return errs.Newf("fusefs.Mount", errs.Invalid, "no mount point given")
	}
	// The mount table has paths without symbolic links.
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	o.Mountpoint = abs
	return o.checkMountpoint()
}

func (o *Options) checkMountpoint() error {
	st, err := os.Stat(o.Mountpoint)
	switch {
	case os.IsNotExist(err):
		return errs.Newf("fusefs.Mount", errs.NotFound, "the mount point %s does not exist: make it with mkdir -p", o.Mountpoint)
	case isDisconnected(err):
		return errs.Newf("fusefs.Mount", errs.Busy, "a dead mount is left at %s: umount -l %s", o.Mountpoint, o.Mountpoint)
	case err != nil:
		return errs.E("fusefs.Mount", errs.Other, err)
	case !st.IsDir():
		return errs.Newf("fusefs.Mount", errs.NotDir, "the mount point %s is not a directory", o.Mountpoint)
	}
	mounts, err := mountTable()
	if err != nil {
		return errs.E("fusefs.Mount", errs.Other, err)
	}
	if m, ok := mounts.at(o.Mountpoint); ok && m.ours() {
		return errs.Newf("fusefs.Mount", errs.Busy, "%s is mounted already", o.Mountpoint)
	}
	return nil
}

func (o *Options) mountFlags() uintptr {
	flags := uintptr(syscall.MS_MGC_VAL) // not zero, which means go-fuse's default
	if !o.Suid {
		flags |= syscall.MS_NOSUID
	}
	if !o.Dev {
		flags |= syscall.MS_NODEV
	}
	if o.NoExec {
		flags |= syscall.MS_NOEXEC
	}
	if o.ReadOnly {
		flags |= syscall.MS_RDONLY
	}
	return flags
}

// helperOptions are the same for fusermount3, which sets nosuid and nodev itself.
func (o *Options) helperOptions() (list []string) {
	if o.Suid {
		list = append(list, "suid")
	}
	if o.Dev {
		list = append(list, "dev")
	}
	if o.NoExec {
		list = append(list, "noexec")
	}
	if o.ReadOnly {
		list = append(list, "ro")
	}
	return list
}
