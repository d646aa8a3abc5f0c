package remote

import (
	"context"
	"time"

	"twofold"
	"twofold/volume/api"
)

// Sessions is what the server's side needs of the volume. Safe for concurrent use.
type Sessions interface {
	// Leads reports whether what the volume remembers may be answered now: false where
	// another node may have taken over. It may be false for a moment without that. It must
	// be quick.
	Leads() bool
	// Begin makes a session for the mount on node (host name and pid, for people).
	// holder is called back for leases until the session ended; it works across
	// connections of the mount.
	Begin(ctx context.Context, node string, holder api.Holder) (Session, error)
	// Resume continues a session that was begun in an earlier process, or on
	// another node: this server has no memory of it. It is not called while the
	// server still knows the session: then its tables are exact and held says
	// nothing new. held are the leases and pins that the mount believes to have;
	// opens still in flight are not in it, releases in flight still are, for both
	// come again after Resume. errs.Fenced where the session is unknown, has ended
	// or token is not its own (compared in constant time); errs.Unavailable where
	// it can't be told now (the mount waits and asks again).
	Resume(ctx context.Context, id twofold.SessionID, token []byte, held api.Held, holder api.Holder) (Session, error)
}

// Session is one mount's session. Safe for concurrent use.
type Session interface {
	ID() twofold.SessionID
	// Token is what a mount must show to resume: at least 16 random bytes.
	Token() []byte
	// LeaseTerm is how long the mount may be silent and keep its leases and locks.
	LeaseTerm() time.Duration
	// Cache tells that the mount takes read leases from now on: without, it is never
	// granted any. It returns the lease term, for which they stay good after the mount was
	// heard of last (Alive); 0 where the session gets none.
	Cache() time.Duration
	// Homes tells that the mount knows what api.Attr.Home is: it is told from now on.
	Homes()
	// Files serves the mount's calls. The context of a changing call carries
	// api.SeqOf. The server sees to it that a number is not run twice at the same
	// time, nor again once it was answered, while this process lives; across
	// restarts the metadata's kept results do. A call may come again after it
	// failed with errs.Unavailable, Canceled or UnknownOutcome.
	// Buffers of Write are the caller's again when it returns.
	Files() api.Files
	// Locks serves its flock(2) and fcntl(2) locks. Set is a changing call as above;
	// what is in flight at a restart is not in Held and comes again, as with opens.
	Locks() api.Locks
	// Disconnected tells that the connection is lost: unless Alive is called in
	// time, the volume ends the session by its own clock.
	Disconnected()
	// Alive tells that the mount was heard of, or is connected again. errs.Fenced
	// where the session has ended. It must be quick.
	Alive() error
	// Done is closed when the session has ended, however that came, or goes on at another
	// node: the connection is closed then.
	Done() <-chan struct{}
	// End ends the session because the mount asked for it: everything was flushed.
	End(ctx context.Context) error
}
