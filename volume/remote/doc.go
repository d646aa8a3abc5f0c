// Package remote carries volume/api.Files across a connection: Client is the
// mount's side, Server the node's.
//
// A mount has a session, which outlives its connections. When a connection breaks,
// the mount's calls wait; the client connects again, shows the session's token and
// what leases and opens it has, and sends the calls that were in flight once more.
//
// # A change has its effect once
//
// Every changing call has a number. It may reach the server several times:
//
//	in the same process     the server has a table of the session's numbers: a call
//	                        that is running is joined, one that was answered is
//	                        answered from the table
//	after a restart         the number travels on as metadata.Command's Seq, and the
//	                        metadata's kept result is the answer
//
// With each number comes the watermark below which everything was answered, so that
// both can forget. A call whose caller went away (a signal) is not sent again; the
// watermark passes it only after the server said (settle) that it does not run and
// never will.
//
// # Opens and leases
//
// Opens and releases are numbered like changes but live in the server's memory. The
// client counts what was answered; a server without memory rebuilds its table from
// that, and what is in flight comes again on top: the count is exact. Leases are
// known by token, so saying the same twice does no harm. Promises of space are counted
// as opens are.
//
// # Locks
//
// Calls that change locks are numbered and counted as opens are; a wait for a lock is a
// call without a number, as it may be long, and is simply made again. What becomes of
// one that its caller left is asked for (mEndAwait) before the caller is told. Where the
// locks of an inode are delegated to the session, the client decides and the server is
// told when it asks (mRecallLocks).
//
// # Several nodes
//
// One of them leads and has the sessions; to the others the server's side is a Door. A mount is
// given one node or more, asks each whether it leads (mWhere) and learns the others, all in
// turn and not one after the other's silence (seek.go), and begins or resumes where one does. A
// change of leader is to it what a restart of the server is: it resumes, says what it holds, and
// sends again under their numbers what was in flight. Where it knows of several, a server that is
// silent for three keep-alives is given up, unless bytes move; and as soon as one is late, when
// another node says that it leads, which it says with a proof.
//
// A node that leads no more may not know it, nor that the next one has given away what it
// remembers. So no answer is sent, of any method, unless Sessions.Leads is true when it is there
// (peer.Serve): until then nobody else can have granted anything. Without, the connection is closed
// and nothing said. That an answer then takes long on its way does no harm: keep-alives count from
// when they were sent, leases have tokens. Keep-alives are a quarter of the lease term, which the
// server tells when a session begins or is resumed.
//
// # The end of a session
//
// When the server says that the session is over (it was silent for too long), the
// holder is told, changing calls that were in flight fail with errs.UnknownOutcome
// (errs.Fenced if they were never sent), and a new session begins. Opens died with
// the old one, and the holder opens again what it still needs; calls that change
// nothing go on as if nothing had happened.
package remote
