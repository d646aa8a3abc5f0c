// Package history shows that both views are one history: clients of S3 and of several
// mounts work on one small tree at once, everything they called and were answered is
// recorded with its times, and porcupine looks for an order of it that one model of the
// whole tree allows (linearizability: Herlihy and Wing, TOPLAS 12(3), 1990).
//
// One operation is one S3 request or one request of the kernel to FUSE. A system call
// that is several is recorded as several: open(2) of a path is a lookup of each
// component (recorded one by one, as openat(2) walks with descriptors), then fstat(2),
// then what is done with the descriptor. So inode numbers are part of the history.
//
//	content.go   what files hold: cells that name the write they are of
//	op.go        an operation and its answer, as recorded and as kept in a file
//	tree.go      the state: inodes, names, who holds unwritten bytes
//	step*.go     what each operation does to it, and which answers are right
//	check.go     porcupine, and the shortest part of a history that is wrong
//	client*.go   the clients
//	rig.go       server, mounts and the network between them, to be killed
//	faults.go    what breaks during rounds
//	campaign.go  rounds
//
// docs/history.md says what is and what is not shown by this.
package history
