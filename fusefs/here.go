package fusefs

import "twofold"

// What package behind answers by itself need not be asked for by a goroutine that requests
// wait for: to start one, and to be woken by it, costs more than the answer. Both may be wrong
// a moment later, when the answer takes a call after all: then the request that asked can't be
// interrupted until it has come, as a flush never can.

// grantsHere reports whether the write lease of an inode is given without a call.
func (f *fsys) grantsHere(ino twofold.Ino) bool { return f.behind != nil && f.behind.Grants(ino) }

// takesHere reports whether a Write of so many bytes to an inode is taken without a call.
func (f *fsys) takesHere(ino twofold.Ino, bytes int64) bool {
	return f.behind != nil && f.behind.Takes(ino, bytes)
}
