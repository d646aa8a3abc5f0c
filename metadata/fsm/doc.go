// Package fsm is the deterministic state machine under a metadata replica: it
// applies commands in the order of the raft log to an ordered key-value store, and
// answers reads from snapshots of it. Time, randomness and request data come in
// commands; two machines that apply the same log have the same bytes, however the
// log is cut into batches and wherever they stop and start again.
//
// # State
//
// Numbers are big-endian and of fixed width, so that keys sort by them. Values are
// records of package metadata unless a form is given here.
//
//	m "format"                           the layout's version (one byte): 1
//	m "applied"                          index, term of the last command (8 + 8 bytes)
//	m "ino" | "bucket" | "session"       next number to give out (8 bytes)
//	b <bucket name>                      Bucket
//	B <bucket id 8>                      bucket name (bytes)
//	i <ino 8>                            Inode
//	e <dir ino 8> <component>            Entry: a file, link or special file
//	e <dir ino 8> <component> "/"        Entry: a directory
//	h <ino 8> <dir ino 8> <component>    (empty) one of the links of an inode that has several
//	x <ino 8> <end offset 8>             Extent
//	r <blob 16> "i" <ino 8>              live bytes of the blob in an inode (8 bytes)
//	r <blob 16> "p" <upload 16> <n 4>    live bytes of the blob in an uploaded part
//	t <blob 16>                          TrashBlob: nothing refers to the blob
//	k <ino 8>                            session, number of the command that marked a file for compaction (8 + 8 bytes)
//	O <ino 8>                            (empty) an inode without links, until FreeInode
//	u <bucket id 8> <key> <upload 16>    (empty) uploads by key; 0x00 in the key is 0x00 0xff, its end 0x00 0x01
//	v <upload 16>                        Upload
//	p <upload 16> <part number 4>        Part
//	s <session 8>                        Session
//	a <session 8>                        results below this number were acknowledged (8 bytes)
//	q <session 8> <seq 8>                Result, kept for the command if it comes again
//	n <nonce 16>                         session id that BeginSession gave (8 bytes)
//	c <name>                             config value (bytes)
//	m "usage"                            how far counting is (usage.go): phase (1 byte), then the last key that was counted
//	U <bucket id 8>                      Usage: what is in a bucket, and its quota
//	R <ino 8>                            (empty) an inode that has a reserve
//	I <session 8>                        ranges of inode numbers that it has left: next, end (8 + 8 bytes each)
//
// A directory's name sorts with its slash, so a depth-first walk of entries is the
// byte order of S3 keys, and an object "a" and a directory "a/" are two entries.
// Children are keyed by their directory's number: renaming it moves one entry.
// Extents are keyed by their end because snapshots only walk forward: the first
// extent that reaches over an offset is one seek away. An overwrite at another offset thus
// removes a key and makes one, and the store steps over what was removed until it
// compacts it away: extents of files that are being changed are kept in memory as well
// (knownextents.go).
//
// # Commands
//
// A command is all or nothing. A refusal (refuse) undoes what it wrote and is kept
// as its result. Any other error is the replica's: a store that fails, a record
// that can't be read. It stops the machine, because going on would make it differ
// from its peers. A command's write set is bounded (limits.go).
package fsm
