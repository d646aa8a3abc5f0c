package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Locks serves the mount's flock(2) and fcntl(2) locks as a connection needs it.
func (s *Session) Locks() api.Locks { return sessionLocks{s} }

// sessionLocks is the lock table as one session sees it.
type sessionLocks struct{ s *Session }

var _ api.Locks = sessionLocks{}

func (k sessionLocks) Get(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	return k.s.v.locks.Get(ctx, k.s, ino, l)
}

func (k sessionLocks) Set(ctx context.Context, ino twofold.Ino, l api.Lock) (api.LockGrant, error) {
	return k.s.v.locks.Set(ctx, k.s, ino, l)
}

func (k sessionLocks) Await(ctx context.Context, ino twofold.Ino, l api.Lock, ticket uint64) error {
	return k.s.v.locks.Await(ctx, k.s, ino, l, ticket)
}

func (k sessionLocks) EndAwait(_ context.Context, ino twofold.Ino, l api.Lock, ticket uint64) (bool, error) {
	return k.s.v.locks.EndAwait(k.s, ino, l, ticket)
}

func (k sessionLocks) Return(_ context.Context, h api.HeldLocks) error {
	return k.s.v.locks.Return(k.s, h)
}

// Delegable implements locks.Session.
func (s *Session) Delegable() bool {
	_, ok := s.holder.(api.LockHolder)
	return ok
}

// RecallLocks implements locks.Session.
func (s *Session) RecallLocks(ctx context.Context, ino twofold.Ino, token uint64) error {
	if h, ok := s.holder.(api.LockHolder); ok {
		return h.RecallLocks(ctx, ino, token)
	}
	return nil
}

// GetLock implements api.Files.
func (s *Session) GetLock(ctx context.Context, ino twofold.Ino, l api.Lock) (api.Lock, bool, error) {
	return s.Locks().Get(ctx, ino, l)
}

// SetLock implements api.Files, for a caller in this process.
func (s *Session) SetLock(ctx context.Context, ino twofold.Ino, l api.Lock, wait bool) error {
	_, err := s.Locks().Set(ctx, ino, l)
	if wait && errs.Is(err, errs.Locked) {
		return s.Locks().Await(ctx, ino, l, 0)
	}
	return err
}
