package replica

import (
	"sync/atomic"
	"time"

	"twofold/internal/errs"
)

// guard runs f, which may use a drive, on a goroutine of its own: a drive that fails
// ends that goroutine (logStore.die), and one that hangs leaves it behind. The raft
// library panics where a log holds what it can't decode; that is an error here.
func guard(limit time.Duration, f func() error) error {
	return guardMoving(limit, new(atomic.Int64), f)
}

// guardMoving is guard for work of unknown length: limit is how long moved may stand
// still.
func guardMoving(limit time.Duration, moved *atomic.Int64, f func() error) error {
	ch := make(chan error, 1)
	go func() {
		err := errs.Newf("replica", errs.Unavailable, "the drive failed")
		defer func() {
			if r := recover(); r != nil {
				err = errs.Newf("replica", errs.Corrupt, "the log can't be read: %v", r)
			}
			ch <- err
		}()
		err = f()
	}()
	t := time.NewTicker(limit)
	defer t.Stop()
	for last := int64(0); ; {
		select {
		case err := <-ch:
			return err
		case <-t.C:
		}
		now := moved.Load()
		if now == last {
			return errs.Newf("replica", errs.Unavailable, "the drive does not answer")
		}
		last = now
	}
}
