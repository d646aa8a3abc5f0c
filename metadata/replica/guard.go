package replica

import (
	"time"

	"twofold/internal/errs"
)

// guard runs f, which may use a drive, on a goroutine of its own: a drive that fails
// ends that goroutine (logStore.die), and one that hangs leaves it behind.
func guard(limit time.Duration, f func() error) error {
	ch := make(chan error, 1)
	go func() {
		err := errs.Newf("replica", errs.Unavailable, "the drive failed")
		defer func() { ch <- err }()
		err = f()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-ch:
		return err
	case <-t.C:
		return errs.Newf("replica", errs.Unavailable, "the drive does not answer")
	}
}
