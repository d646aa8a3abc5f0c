package fusefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold"
	"twofold/volume/api"
)

// GetLk is fcntl(2) with F_GETLK or F_OFD_GETLK.
func (f *fsys) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	b, found, err := f.files.GetLock(ctx, twofold.Ino(in.NodeId), lockOf(in))
	if err != nil {
		return errno(err)
	}
	out.Lk = in.Lk
	out.Lk.Typ = syscall.F_UNLCK
	if found {
		// A process of another mount has no number here: 0.
		out.Lk = fuse.FileLock{Start: b.Start, End: b.End, Typ: syscall.F_RDLCK, Pid: b.Pid}
		if b.Type == api.LockExclusive {
			out.Lk.Typ = syscall.F_WRLCK
		}
	}
	return fuse.OK
}

// SetLk is fcntl(2) with F_SETLK or F_OFD_SETLK, flock(2) with LOCK_NB, and whatever
// unlocks.
func (f *fsys) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceChange)
	defer ctx.end()
	return f.setLock(ctx, in, false)
}

// SetLkw is the same, but waits. A signal ends it at once with EINTR, upon which the
// kernel begins again where the handler was installed with SA_RESTART; a lock that was
// granted meanwhile is told as such.
func (f *fsys) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	ctx := f.request(cancel, 0, 0) // any signal ends the wait, fcntl(2)
	defer ctx.end()
	return f.setLock(ctx, in, true)
}

func (f *fsys) setLock(ctx context.Context, in *fuse.LkIn, wait bool) fuse.Status {
	l := lockOf(in)
	ino := twofold.Ino(in.NodeId)
	if l.Kind == api.LockRecord && l.Type != api.LockNone {
		file := f.handles.file(in.Fh)
		if file == nil {
			return fuse.EBADF
		}
		file.n.lockers.note(l.Owner, in.Fh)
		l.Process = wait && f.isProcess(file.n, in)
	}
	return errno(f.files.SetLock(ctx, ino, l, wait))
}

func lockOf(in *fuse.LkIn) api.Lock {
	l := api.Lock{Owner: in.Owner, Start: in.Lk.Start, End: in.Lk.End, Pid: in.Lk.Pid}
	switch in.Lk.Typ {
	case syscall.F_RDLCK:
		l.Type = api.LockShared
	case syscall.F_WRLCK:
		l.Type = api.LockExclusive
	}
	if in.LkFlags&fuse.LK_FLOCK != 0 {
		l.Kind, l.Start, l.End = api.LockFlock, 0, api.MaxLockEnd
	}
	return l
}

// flushLocks drops the record locks of the process that closed one of its descriptors
// of the inode (fcntl(2): whichever it was).
func (f *fsys) flushLocks(n *node, owner uint64) {
	f.owners.note(owner)
	if n.lockers.forget(owner) {
		f.unlock(n, api.LockRecord, owner)
	}
}

// releaseLocks drops what belongs to an open file that is gone: its flock(2) lock, of
// which the kernel says that there is one, and its OFD locks, of which it does not.
func (f *fsys) releaseLocks(in *fuse.ReleaseIn) {
	file := f.handles.file(in.Fh)
	if file == nil {
		return
	}
	if in.ReleaseFlags&fuse.FUSE_RELEASE_FLOCK_UNLOCK != 0 {
		f.unlock(file.n, api.LockFlock, in.LockOwner)
	}
	for _, owner := range file.n.lockers.only(in.Fh) {
		f.unlock(file.n, api.LockRecord, owner)
	}
}

func (f *fsys) unlock(n *node, kind api.LockKind, owner uint64) {
	err := f.files.SetLock(f.ctx, n.ino, api.Lock{Kind: kind, Owner: owner, End: api.MaxLockEnd}, false)
	if err != nil { // then the server has, or will have, dropped them with the session
		f.log.Debug("locks not dropped", "ino", n.ino, "err", err)
	}
}
