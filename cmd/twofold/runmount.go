package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"twofold"
	"twofold/fusefs"
	"twofold/internal/errs"
	"twofold/internal/procid"
	"twofold/volume/api"
	"twofold/volume/remote"
)

// dialTimeout is how long a mount waits for a server at its start.
const dialTimeout = 30 * time.Second

// runMount mounts, and serves until somebody unmounts or a signal asks to.
func runMount(f *mountCommandFlags, from, dir string) error {
	limitMemory()
	floor := raiseFloor()
	defer runtime.KeepAlive(floor)
	moreProcessors()
	calmMonitor()
	waiting := newReadiness()
	log, err := f.logger(waiting)
	if err != nil {
		return err
	}
	src, err := parseSource(from)
	if err != nil {
		return err
	}
	opts, err := f.options(dir, log)
	if err != nil {
		return err
	}
	secret, err := f.secret()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// It outlives the server, and so perhaps who reads the log: that is no reason to die.
	signal.Ignore(syscall.SIGPIPE)
	m := &mountProcess{dir: dir, log: log, mounted: make(chan struct{})}
	// Before anything else: one process for one mount point. What another one serves
	// there is not even looked at: while its server is away that would wait.
	if err := serveControl(ctx, dir, m.stop); err != nil {
		return err
	}
	if err := prepareMountPoint(dir, log); err != nil {
		return err
	}
	holder := newLateHolder()
	dial, stopDial := context.WithTimeout(ctx, dialTimeout)
	defer stopDial()
	client, err := remote.Dial(dial, remote.Options{
		Endpoints: src.hosts(), Secret: secret, Holder: holder, Logger: log, Node: procid.Self(), Caches: true,
	})
	if err != nil {
		return dialError(src.host, err)
	}
	if f.named {
		opts.Source = from // as fstab has it: mount(8) compares them
	}
	opts.CachedUntil = client.CachedUntil
	if opts.Root, err = src.root(dial, client); err == nil {
		err = makeMountPoint(dir) // only now: a mount that can't be leaves no directory behind
	}
	if err == nil {
		m.server, err = fusefs.Mount(opts, client)
	}
	if err != nil {
		client.Close(ctx)
		return plain(err)
	}
	holder.set(m.server.Holder())
	close(m.mounted)
	if err := startGuard(m.server); err != nil {
		log.Warn("nobody aborts the mount if it is killed at a bad moment; umount -f does", "err", err)
	}
	waiting.tell()
	log.Info("mounted", "dir", m.server.Mountpoint(), "source", from)
	m.wait()
	closing, stopClosing := context.WithTimeout(ctx, dialTimeout)
	defer stopClosing()
	if err := client.Close(closing); err != nil {
		log.Warn("the server was not told of the end of the mount", "err", err)
	}
	log.Info("unmounted", "dir", dir)
	return nil
}

// options are the mount's, from the command line.
func (f *mountCommandFlags) options(dir string, log *slog.Logger) (fusefs.Options, error) {
	uid, gid, umask, err := f.resolve()
	if err != nil {
		return fusefs.Options{}, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fusefs.Options{}, usage("%s: %w", dir, err)
	}
	return fusefs.Options{
		Mountpoint: abs, ReadOnly: f.readOnly, NoExec: f.noExec, AllowOther: f.allowOther, Pages: f.pages,
		UID: uid, GID: gid, Umask: umask, Log: log, WriteBehind: !f.noBehind,
	}, nil
}

// mountProcess is the life of a mount.
type mountProcess struct {
	dir     string
	log     *slog.Logger
	mounted chan struct{}
	server  *fusefs.Server // set before mounted is closed
	once    sync.Once
	err     error
}

// flushTimeout is how long an orderly unmount may take to commit what is unwritten.
const flushTimeout = 50 * time.Second

// stop unmounts; while the mount is in use it is detached instead.
func (m *mountProcess) stop() error {
	select {
	case <-m.mounted:
	case <-time.After(dialTimeout):
		return errors.New("it is not mounted yet")
	}
	m.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		m.err = m.server.Unmount(ctx, false)
		if errs.Is(m.err, errs.Busy) {
			m.log.Warn("the mount is in use and is detached; what is open in it ends with an error", "err", m.err)
			m.err = m.server.Unmount(ctx, true)
			time.AfterFunc(time.Second, func() { os.Exit(0) })
		}
	})
	if m.err != nil {
		return plain(m.err)
	}
	return nil
}

// wait returns when the mount is over.
func (m *mountProcess) wait() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		for range signals {
			if err := m.stop(); err != nil {
				m.log.Error("not unmounted", "err", err)
			}
		}
	}()
	m.server.Wait()
}

// lateHolder is the holder of a session that begins before its mount is there.
type lateHolder struct {
	h     api.Holder // set before there is closed
	there chan struct{}
}

var _ api.Holder = (*lateHolder)(nil)

func newLateHolder() *lateHolder { return &lateHolder{there: make(chan struct{})} }

func (l *lateHolder) set(h api.Holder) {
	l.h = h
	close(l.there)
}

// get is the holder, or nil before the mount: then there are no leases.
func (l *lateHolder) get() api.Holder {
	select {
	case <-l.there:
		return l.h
	default:
		return nil
	}
}

// Recall implements api.Holder. The kernel may ask for a lease a moment before the
// holder is set: a recall of that one waits.
func (l *lateHolder) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	select {
	case <-l.there:
		return l.h.Recall(ctx, ino, token)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Invalidate implements api.Holder. As Recall it waits: the kernel may have looked
// something up already.
func (l *lateHolder) Invalidate(ctx context.Context, stale []api.Stale) error {
	select {
	case <-l.there:
		return l.h.Invalidate(ctx, stale)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Held implements api.Holder.
func (l *lateHolder) Held() api.Held {
	if h := l.get(); h != nil {
		return h.Held()
	}
	return api.Held{}
}

// Lost implements api.Holder.
func (l *lateHolder) Lost(err error) {
	if h := l.get(); h != nil {
		h.Lost(err)
	}
}
