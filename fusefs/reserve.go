package fusefs

import (
	"context"

	"twofold"
	"twofold/internal/errs"
)

// reservePiece is how many bytes a file reserves beyond what a write needs, at most: the
// volume gives less where the bucket's quota is nearly used up.
const reservePiece = 16 << 20

// reserve asks that the file may grow to end bytes under the lease (api.Files.Reserve).
// It is asked for before the bytes are taken, so that write(2) is refused, errs.Quota,
// and no flush ever is. Writes over what is there need none. n.mu is held, but not while
// the volume is asked: the caller looks at everything again.
func (n *node) reserve(ctx context.Context, end int64) error {
	token := n.token
	n.mu.Unlock()
	allowed, err := n.fs.files.Reserve(ctx, n.ino, token, end, reservePiece)
	n.mu.Lock()
	if errs.Is(err, errs.Unsupported) { // an older server, without quotas
		allowed, err = twofold.MaxFileLen, nil
	}
	switch {
	case n.token != token: // the lease went meanwhile, and what it had reserved
		return nil
	case errs.Is(err, errs.Fenced):
		n.lose(err)
		return nil
	case err != nil:
		return err
	}
	n.allowed = max(n.allowed, allowed)
	return nil
}
