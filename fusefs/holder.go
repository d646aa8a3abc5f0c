package fusefs

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// holder is the side of the mount that the volume calls back.
type holder struct{ f *fsys }

var _ api.Holder = holder{}

// Recall commits what is held under the lease and gives it back.
func (h holder) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	n := h.f.known(ino)
	if n == nil {
		return nil
	}
	defer h.f.unref(n)
	return n.recall(ctx, token)
}

// Invalidate has nothing to do: no read leases are asked for.
func (h holder) Invalidate(context.Context, []api.Stale) error { return nil }

// Held lists leases and open files. An inode is pinned once, whatever the number
// of its open files.
func (h holder) Held() (held api.Held) {
	for _, n := range h.f.all() {
		n.mu.Lock()
		if n.token != 0 {
			held.Writes = append(held.Writes, api.HeldWrite{Ino: n.ino, Token: n.token})
		}
		if n.pin == pinHeld {
			held.Opens = append(held.Opens, api.HeldOpen{Ino: n.ino, Count: 1})
		}
		n.mu.Unlock()
		h.f.unref(n)
	}
	return held
}

// Lost drops what was written under leases that are gone, to be reported as EIO by
// fsync and close, and pins open files again in the new session.
func (h holder) Lost(err error) {
	h.f.log.Error("the mount's session is lost", "err", err)
	h.f.budget.forgetPromise()
	lost := errs.E("fusefs.Lost", errs.Fenced, err)
	for _, n := range h.f.all() {
		n.mu.Lock()
		if n.token != 0 {
			n.lose(lost)
		}
		n.mu.Unlock()
		go func() {
			defer h.f.unref(n)
			n.repin(h.f.ctx)
		}()
	}
}
