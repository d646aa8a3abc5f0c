package drive

import (
	"sync"

	"twofold/internal/vfs"
)

// dirSync shares fsyncs of one directory between those who changed it at the same
// time. One runs at a time; whoever comes while it runs needs the next one, since
// the running one may have begun before his change, and shares that with the others
// who wait.
type dirSync struct {
	run sync.Mutex // held during the fsync

	mu   sync.Mutex
	next *syncCall // the one that has not begun; guarded by mu
}

type syncCall struct {
	done chan struct{}
	err  error // valid after done
}

// sync returns after an fsync of dir that began after the call.
func (d *dirSync) sync(fsys vfs.FS, dir string) error {
	d.mu.Lock()
	c := d.next
	leader := c == nil
	if leader {
		c = &syncCall{done: make(chan struct{})}
		d.next = c
	}
	d.mu.Unlock()
	if !leader {
		<-c.done
		return c.err
	}
	d.run.Lock()
	d.mu.Lock()
	d.next = nil // who comes from here on may be too late for this one
	d.mu.Unlock()
	c.err = fsys.SyncDir(dir)
	d.run.Unlock()
	close(c.done)
	return c.err
}
