package fusefs

import (
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/fusefs/behind"
	"twofold/internal/errs"
	"twofold/volume/api"
)

const (
	maxIO         = 1 << 20 // bytes of one READ or WRITE of the kernel
	maxBackground = 64      // requests that nobody waits for: readahead, page writes, releases
	readaheadKiB  = 4096
)

// directMmap is what a kernel offers that can map files which are opened for direct
// I/O (Linux 6.6; fuse.h, FUSE_DIRECT_IO_ALLOW_MMAP). The flag is one of the second
// word, which the kernel reads only with FUSE_INIT_EXT (go-fuse adds it).
const directMmap = fuse.CAP_DIRECT_IO_ALLOW_MMAP

// Mount mounts files at opts.Mountpoint and serves until it is unmounted. The
// Server's Holder has to be given to the session behind files. As root it mounts by
// itself, otherwise with the helper fusermount3.
func Mount(opts Options, files api.Files) (*Server, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	var wb *behind.Files
	if opts.WriteBehind && !opts.ReadOnly && opts.CachedUntil != nil {
		wb = behind.New(files, behind.Options{CachedUntil: opts.CachedUntil, Root: opts.Root, Log: opts.Log})
		files = wb
	}
	f := newFsys(opts, opts.view(files))
	if f.behind = wb; wb != nil {
		wb.Holder(holder{f})
	}
	fs, err := mount(f, &opts)
	if err != nil {
		f.stopAll()
		return nil, err
	}
	s := &Server{f: f, fuse: fs, mountpoint: opts.Mountpoint, log: opts.Log, over: make(chan struct{})}
	go s.serve()
	if err := fs.WaitMount(); err != nil {
		opts.Log.Warn("the mount is slow to answer", "mountpoint", opts.Mountpoint, "err", err)
	}
	setReadahead(opts.Mountpoint, opts.Log)
	return s, nil
}

// view is what of files the mount shows, and lets be changed.
func (o *Options) view(files api.Files) api.Files {
	if o.ReadOnly {
		files = readOnly{files}
	}
	if o.Root != 0 && o.Root != twofold.RootIno {
		files = subtree{files, o.Root}
	}
	return files
}

func mount(f *fsys, opts *Options) (*fuse.Server, error) {
	fo := fuseOptions(opts)
	direct := error(nil)
	if os.Geteuid() == 0 {
		fo.DirectMountStrict = true
		fo.DirectMountFlags = opts.mountFlags()
		s, err := fuse.NewServer(f, opts.Mountpoint, fo)
		if err == nil {
			keepConnections()
			return s, nil
		}
		direct = err
	}
	if _, err := helper(); err != nil {
		return nil, unmountable(opts.Mountpoint, direct)
	}
	fo.DirectMountStrict = false
	fo.Options = append(fo.Options, opts.helperOptions()...)
	s, err := fuse.NewServer(f, opts.Mountpoint, fo)
	if err != nil {
		return nil, refusedMount(opts, err)
	}
	keepConnections()
	return s, nil
}

// unmountable says what is missing for a mount without the helper.
func unmountable(mountpoint string, direct error) error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return errs.Newf("fusefs.Mount", errs.Unsupported,
			"cannot mount at %s: there is no /dev/fuse (load the kernel module with modprobe fuse, or give the container --device /dev/fuse)", mountpoint)
	}
	if direct == nil {
		return errs.Newf("fusefs.Mount", errs.Unsupported,
			"cannot mount at %s: without root that takes fusermount3, which is not installed (apt install fuse3)", mountpoint)
	}
	return errs.Newf("fusefs.Mount", errs.Permission,
		"cannot mount at %s: %v; the other way, fusermount3, is not installed (apt install fuse3)", mountpoint, direct)
}

func refusedMount(opts *Options, err error) error {
	hint := ""
	if opts.AllowOther && os.Geteuid() != 0 {
		hint = " (allow-other takes user_allow_other in /etc/fuse.conf)"
	}
	return errs.Newf("fusefs.Mount", errs.Permission, "cannot mount at %s: %v%s", opts.Mountpoint, err, hint)
}

// withACLs has the kernel obey POSIX ACLs (Linux 4.9), leave the umask to us, because a
// default ACL comes in its place, and say when an ACL clears the set-group-ID bit.
const withACLs = fuse.CAP_POSIX_ACL | fuse.CAP_DONT_MASK | fuse.CAP_SETXATTR_EXT

func fuseOptions(opts *Options) *fuse.MountOptions {
	capabilities := uint64(fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ASYNC_DIO | directMmap)
	if !opts.noACL {
		capabilities |= withACLs
	}
	logger := kernelLog(opts.Log)
	if opts.requests != nil {
		logger = log.New(opts.requests, "", 0)
	}
	return &fuse.MountOptions{
		AllowOther:    opts.AllowOther,
		Options:       []string{"default_permissions"},
		FsName:        opts.Source,
		Name:          fsName,
		MaxWrite:      maxIO,
		MaxReadAhead:  maxIO,
		MaxBackground: maxBackground,
		DisableSplice: true, // replies are in memory, not in files
		EnableLocks:   true, // flock(2) and fcntl(2) locks are the store's, not this kernel's
		// One truncate with the open instead of two requests; and no question for
		// security.capability before each write.
		ExtraCapabilities: capabilities,
		// Attributes in listings are only worth their price if the kernel may keep them.
		DisableReadDirPlus: opts.CachedUntil == nil,
		Logger:             logger,
		Debug:              opts.requests != nil,
		PanicHandler: func(p any) fuse.Status {
			opts.Log.Error("a request failed badly", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			return fuse.EIO
		},
	}
}

func kernelLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// helper is the set-id program that mounts for users.
func helper() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// setReadahead raises what the kernel reads ahead beyond the 128 KiB that FUSE may
// ask for. Only root can; without it sequential reads are slower, not wrong.
func setReadahead(mountpoint string, l *slog.Logger) {
	mounts, err := mountTable()
	if err != nil {
		return
	}
	m, ok := mounts.at(mountpoint)
	if !ok || !m.ours() {
		return
	}
	file := fmt.Sprintf("/sys/class/bdi/%s/read_ahead_kb", m.device)
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d", readaheadKiB), 0); err != nil {
		l.Debug("readahead stays at the kernel's default", "err", err)
	}
}
