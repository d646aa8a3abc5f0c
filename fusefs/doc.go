// Package fusefs is the POSIX view: a FUSE server over api.Files, the volume's
// operations for one mount. It knows names, attributes and bytes as the kernel
// asks for them, and nothing of drives or of how the volume is reached.
//
// Node ids are inode numbers (twofold.Ino), which are never reused, so that
// renames elsewhere need no tracking here: an inode that is gone answers ESTALE
// and the kernel looks its name up again.
//
// Bytes of write(2) are held in memory under the inode's write lease, and are
// committed by fsync, close, size, age, or when somebody else wants the inode: then
// the volume calls the mount's api.Holder. DESIGN.md tells how this stays
// linearizable, which of the kernel's caches are used, and why nothing deadlocks.
//
// The way of a write(2): Writev (ops_io.go), node.write (write.go), layer.write
// (layer.go), node.runFlush (flush.go), api.Files.Write. The way of a recall:
// holder.Recall (holder.go), node.recall and node.giveBack (lease.go).
package fusefs
