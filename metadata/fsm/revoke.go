package fsm

import (
	"slices"

	"twofold"
	"twofold/metadata"
)

// maxRevoked bounds the tokens, and the inodes, that are kept of one session: 4 KiB each, about.
const maxRevoked = 1024

// revoke notes what was taken from a mount for silence. Where that is too much to keep, more is
// noted than was taken: all leases as old as those that are forgotten, all locks. That loses
// what a mount has not flushed, and never shows anybody a lease that others have relied on not
// being there.
func (a *applier) revoke(b *metadata.Revoke) (*metadata.Result, error) {
	s, err := a.session(b.ID)
	if err != nil || s == nil || s.Ended {
		return &metadata.Result{}, err
	}
	n := *s
	n.Revoked = merged(s.Revoked, b.Tokens)
	if over := len(n.Revoked) - maxRevoked; over > 0 {
		n.NoTokens = max(n.NoTokens, n.Revoked[over-1])
		n.Revoked = n.Revoked[over:]
	}
	n.Unlocked = slices.DeleteFunc(slices.Clone(s.Unlocked), func(ino twofold.Ino) bool { return slices.Contains(b.Closed, ino) })
	n.Unlocked = merged(n.Unlocked, b.Locks)
	if n.NoLocks = n.NoLocks || len(n.Unlocked) > maxRevoked; n.NoLocks {
		n.Unlocked = nil
	}
	return &metadata.Result{}, a.putSession(&n)
}

// merged is what is in either list, in order and once.
func merged[T ~uint64](old, more []T) []T {
	all := append(slices.Clone(old), more...)
	slices.Sort(all)
	return slices.Compact(all)
}
