// Package behind makes changes of names behind the programs that asked for them: while
// the mount has a directory's write lease it creates, writes small files, renames and unlinks
// there without a call, and commits what it did in batches. POSIX makes names durable at
// fsync(2) only. Whoever else looks, through S3 or another mount, has the lease recalled
// first, and with it everything is committed: there is still one history.
//
// Files is api.Files in front of the volume's. There is one queue for the whole mount, in
// the order of the operations, so that what a crash of the mount loses is a suffix. What
// is not done here goes the ordinary way: first what is queued of what the call names is
// committed (for a change, everything), then the call is sent, then what is known of it
// here is forgotten.
//
// What is known here is known under the write lease of a directory: its names (names.go),
// its attributes, and the attributes of inodes that were made in it (inodes.go). These
// are predicted exactly, so that the batch's answer brings nothing new; where it does, the
// caches above are told (result.go).
//
// Locks: Files.mu guards everything, and is held for no call of anybody.
package behind
