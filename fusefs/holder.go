package fusefs

import (
	"context"
	"time"

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

// Held lists leases and open files. An inode is pinned once, whatever the number
// of its open files. The server that hears it may know nothing of read leases that one
// before it gave, so they end here, with all that is cached, and lazy pins are asked
// for in earnest: the volume keeps an inode without a name for a moment.
func (h holder) Held() (held api.Held) {
	last := h.f.cache.drop()
	for _, ino := range h.f.cache.longOpened(time.Now()) {
		go h.f.leased.pin(h.f.ctx, ino)
	}
	h.f.shutAll(h.f.pagedInodes())()
	sleep(h.f.ctx, time.Until(last)) // at most a second: the kernel can't be told of everything
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
	h.f.cache.drop()
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
