package fusefs

import (
	"context"
	"errors"

	"twofold/internal/errs"
)

// errMoved tells a read that the volume's content changed under it.
var errMoved = errors.New("content moved")

// read fills p from off as of one moment: what is dirty here over what the volume
// has. cached tells that the kernel keeps the bytes as pages, to which a mapping
// may store without asking: of a file that is open for writing that needs the
// lease (rule 4). before is what was read ahead for the handle, if it has any.
func (n *node) read(ctx context.Context, off int64, p []byte, cached bool, before *ahead) (int, error) {
	for {
		k, err := n.readOnce(ctx, off, p, cached, before)
		if err != errMoved {
			return k, err
		}
	}
}

func (n *node) readOnce(ctx context.Context, off int64, p []byte, cached bool, before *ahead) (int, error) {
	n.mu.Lock()
	if err := n.admitRead(ctx, cached && n.mappers > 0); err != nil {
		n.mu.Unlock()
		return 0, err
	}
	n.filled = n.filled || cached
	if !n.decides() {
		n.mu.Unlock()
		if before != nil {
			return before.read(ctx, off, p)
		}
		return n.fs.files.Read(ctx, n.ino, off, p)
	}
	rev := n.rev
	p = p[:max(0, min(int64(len(p)), n.size-off))]
	gaps := []gap{{0, len(p)}}
	if len(p) == 0 {
		gaps = nil
	}
	gaps = n.dirty.fill(off, p, gaps)
	gaps = n.flushing.fill(off, p, gaps)
	n.mu.Unlock()
	before.forget()
	if len(gaps) == 0 {
		return len(p), nil
	}
	if err := n.fillGaps(ctx, off, p, gaps); err != nil {
		return 0, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rev != rev {
		return 0, errMoved // the gaps may be newer than the rest
	}
	return len(p), nil
}

// admitRead waits until no truncate runs, and for the lease where pages are filled
// that a mapping may store to. n.mu is held.
func (n *node) admitRead(ctx context.Context, lease bool) error {
	if lease {
		if err := n.admit(ctx); !errs.Is(err, errs.ReadOnly) {
			n.refilled = true
			return err
		} // a store that can't be committed needs no lease
	}
	for n.op {
		if err := n.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// fillGaps reads from the volume what is not dirty, as one Read. Behind the
// volume's end of the file there are zeros.
func (n *node) fillGaps(ctx context.Context, off int64, p []byte, gaps []gap) error {
	from, to := gaps[0].from, gaps[len(gaps)-1].to
	b := p[from:to]
	if len(gaps) > 1 {
		b = make([]byte, to-from)
	}
	k, err := n.fs.files.Read(ctx, n.ino, off+int64(from), b)
	if err != nil {
		return err
	}
	clear(b[k:])
	if len(gaps) > 1 {
		for _, g := range gaps {
			copy(p[g.from:g.to], b[g.from-from:g.to-from])
		}
	}
	return nil
}
