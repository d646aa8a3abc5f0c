// Package drives is the drives of other nodes: a Server lets other nodes use drives of
// this process, a Node is another node's drives as they are known here, and each of them,
// a Remote, is a drive.Drive like a local one, and passes the same conformance suite.
//
// # A shard's way
//
// Written: blocks gather in a buffer of up to 1 MiB, which is sent as one call while the
// next one fills; a few are under way at a time, and the server takes them in their order.
// The first call creates the shard, the last one commits it, and is answered when the
// drive's Commit has returned. A shard that fits one buffer is one call.
//
//	mWrite seq 0, header, blocks  ------>  Create, WriteBlock ...
//	mWrite seq 1, blocks          ------>  WriteBlock ...
//	mWrite seq 2, blocks, trailer ------>  WriteBlock ..., Commit (fsync)
//	                              <------  an answer to each
//
// Read: mOpen answers with the shard's description, and with all of its content where that
// is little: then it is the only call. Otherwise mRead asks for bytes of one block each. A
// reader that is read in order has the next blocks on their way before they are asked for.
//
// # What is believed
//
// Each request and answer is sealed with a hash over all of it (sealed), as TCP's checksum
// is too weak for the bytes of a store: what was changed on the way is an error, and asked
// for again, never stored or returned. Between the seals and the disk the hashes of the
// shard file hold. What a peer says is checked before anything is allocated or computed by
// it (check.go): a peer that lies costs its own drives' use.
//
// # Handles
//
// A shard being written, or open, or a walk that goes on, is a handle at the server, bound
// to the connection that it was made on: with the connection it ends. They are bounded per
// connection in number, and in bytes; those that nobody uses end after a time. A reader or
// a walk whose handle is gone makes it anew, unnoticed; a shard half written is lost, and
// is garbage in the drive's tmp/ at most for as long as the handle lives.
//
// # Time
//
// Every call ends with its caller's context, by a deadline of its own, or as soon as the
// node is known to be down, and leaves its buffers to whoever still works with them.
package drives
