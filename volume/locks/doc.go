// Package locks is the lock service: flock(2) and fcntl(2) record locks of all mounts.
//
//	set.go       the locks of one inode and kind: ranges split, merged, compared. Pure
//	table.go     the server's table: who has what, of which session
//	wait.go      requests that wait: their order, and who would wait for ever
//	delegate.go  inodes whose locks one session grants by itself
//
// It lives in the server's memory. As with leases, what makes it safe across a restart
// is that mounts say what they hold before anybody is granted anything (Table.Restore,
// the ready function), and what makes it safe against a mount that never comes back is
// the lease term: a session that was silent for longer loses the locks that others ask
// for. It is told so (errs.Fenced) when it comes back and asks for anything. That it lost
// them is noted in the metadata before anybody else has them (taken.go), so that the server
// that it comes to next does not believe it either.
//
// Semantics are Linux's (fcntl(2), "Advisory record locking"; flock(2)): POSIX and OFD
// locks are one kind and conflict, flock(2)'s are another one. A request that does not
// wait is refused because of locks that are held, never because of others that wait.
package locks
