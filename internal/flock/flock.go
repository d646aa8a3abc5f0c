// Package flock takes locks of files, flock(2), that can outlive the process that
// took them.
//
// Such a lock belongs to the open file description, not to the process: it lasts
// until the last descriptor of it is closed. A process that is killed while a thread
// of it waits inside a file system that hangs keeps its descriptors, all of them,
// until that thread comes back, which may be never: the next process would find
// every drive in use. So a Keeper puts a second descriptor of each lock where its
// successor finds it, in a Box, and the successor goes on with the same lock.
package flock

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Keeper takes locks. A nil *Keeper takes such as end with the process. Safe for
// concurrent use.
type Keeper struct {
	box *Box

	mu   sync.Mutex
	held map[string]*os.File // guarded by mu: the locks of this process, by path
	left map[string]*os.File // guarded by mu: those of the one before that were not asked for yet
	err  error               // guarded by mu: of the last time the box was filled
}

// NewKeeper takes over what another process left in the box. No other process may
// use the box from here on.
func NewKeeper(box *Box) (*Keeper, error) {
	left, err := box.take()
	if err != nil {
		return nil, err
	}
	k := &Keeper{box: box, held: map[string]*os.File{}, left: left}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fill()
	return k, nil
}

// Lock takes the exclusive lock of the file at path, which is made where it is not
// there (mode 0600). It does not wait: EWOULDBLOCK, in a *fs.PathError, when somebody
// else has it. A lock that the process before had of the same file is taken over. On
// a file system that is read-only a file that is there is locked all the same. It
// hangs where the file system does.
func (k *Keeper) Lock(path string) (*Lock, error) {
	if f := k.inherited(path); f != nil {
		// The path may lead to another file by now; and the lock may have been given
		// back just before its owner ended.
		if same(f, path) && lock(f) == nil {
			return k.keep(path, f), nil
		}
		f.Close()
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) {
		if r, e := os.Open(path); e == nil {
			f, err = r, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return k.keep(path, f), nil
}

// Settle gives up what the process before left and nobody asked for: of drives that
// did not answer at the start. Their locks are then held by that process alone, if a
// thread of it is still inside, so that whoever takes one later knows that nothing of
// it can reach the drive any more. Closing goes on in the background: a lock that is
// free may be taken a moment after Settle returned. The error tells that the locks held will not
// outlive this process.
func (k *Keeper) Settle() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	left := k.left
	k.left = nil
	k.fill()
	err := k.err
	k.mu.Unlock()
	for _, f := range left {
		go f.Close() // may hang in a FUSE file system's FLUSH
	}
	return err
}

// inherited takes what the process before had locked at path, or nil.
func (k *Keeper) inherited(path string) *os.File {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.left[path]
	delete(k.left, path)
	return f
}

// keep notes a lock.
func (k *Keeper) keep(path string, f *os.File) *Lock {
	l := &Lock{k: k, path: path, File: f}
	if k != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.held[path] = f
		k.fill()
	}
	return l
}

// forget is keep's opposite.
func (k *Keeper) forget(l *Lock) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[l.path] == l.File {
		delete(k.held, l.path)
		k.fill()
	}
}

// fill puts what there is into the box. The caller holds mu: the descriptors stay
// open meanwhile.
func (k *Keeper) fill() {
	all := maps.Clone(k.left)
	if all == nil {
		all = map[string]*os.File{}
	}
	maps.Copy(all, k.held)
	k.err = k.box.put(slices.Sorted(maps.Keys(all)), all)
}

// Lock is a lock that is held, and its file.
type Lock struct {
	k    *Keeper
	path string
	*os.File
}

// Close gives the lock back. It is free when Close returns, whoever else has a
// descriptor of it, and the file is open in no box any more, so that its file system
// can be unmounted. Closing the file may hang with its file system; the lock is free
// before.
func (l *Lock) Close() error {
	_ = unix.Flock(int(l.Fd()), unix.LOCK_UN)
	l.k.forget(l)
	return l.File.Close()
}

func lock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

// same reports whether path leads to the open file.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
