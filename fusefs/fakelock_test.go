package fusefs

import (
	"context"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
	"twofold/volume/locks"
)

// The fake's locks are the server's own table.
var _ locks.Session = (*fakeSession)(nil)

func (s *fakeSession) ID() twofold.SessionID { return s.id }
func (s *fakeSession) Silent() time.Duration { return 0 }
func (s *fakeSession) Delegable() bool       { return false }
func (s *fakeSession) RecallLocks(context.Context, twofold.Ino, uint64) error {
	return nil
}

func (s *fakeSession) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	if err := s.before("GetLock", ino); err != nil {
		return api.Lock{}, false, err
	}
	return s.v.locks.Get(ctx, s, ino, l)
}

func (s *fakeSession) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	if err := s.before("SetLock", ino); err != nil {
		return err
	}
	_, err := s.v.locks.Set(ctx, s, ino, l)
	if wait && errs.Is(err, errs.Locked) {
		s.before("AwaitLock", ino)
		return s.v.locks.Await(ctx, s, ino, l, 0)
	}
	return err
}
