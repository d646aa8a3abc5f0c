package fusefs

import (
	"context"

	"twofold"
	"twofold/volume/api"
)

// stillAfter is how often attributes are asked for again, because something was written
// meanwhile, before writers are held up for an answer.
const stillAfter = 3

// state is what overlay shows of an inode under a write lease; the zero value: nothing,
// for the volume decides.
type state struct {
	cutting             bool // it is not to be shown, see node.cutting
	token               uint64
	wseq                uint64
	size                int64
	mtime, ctime, atime twofold.Time
}

// state is that of this moment. Two equal ones have had no other in between: wseq only
// rises, and so does ctime with each change that is no write.
func (f *fsys) state(ino twofold.Ino) state {
	n := f.known(ino)
	if n == nil {
		return state{}
	}
	defer f.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.decides() {
		return state{}
	}
	return state{n.cutting, n.token, n.wseq, n.size, n.mtime, n.ctime, n.heldAtime()}
}

// awaitCut waits for the end of a truncate of an inode that is on its way to the volume.
func (f *fsys) awaitCut(ctx context.Context, ino twofold.Ino) error {
	n := f.known(ino)
	if n == nil {
		return nil
	}
	defer f.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.cutting {
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stillAttrs is attrs while nothing is written to the inode here. It reports false where
// this mount does not decide about it (any more). Nobody who has to write for the volume's
// answer to come waits for it: a recall of the lease, and a flush for it, do, and the
// volume answers a holder's own GetAttr without them.
func (f *fsys) stillAttrs(ctx context.Context, ino twofold.Ino, pages bool) (a api.Attr, ok bool, err error) {
	n := f.known(ino)
	if n == nil {
		return a, false, nil
	}
	defer f.unref(n)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.op {
		if err := n.wait(ctx); err != nil {
			return a, false, err
		}
	}
	if !n.decides() {
		return a, false, nil
	}
	n.op = true
	n.mu.Unlock()
	a, err = f.files.GetAttr(ctx, ino)
	n.mu.Lock()
	n.op = false
	n.broadcast()
	if err != nil || !n.overlay(&a) {
		return a, false, err
	}
	if pages { // behind the moment: the kernel writes pages back, which op holds up
		err = n.awaitPages(ctx)
	}
	return a, err == nil, err
}
