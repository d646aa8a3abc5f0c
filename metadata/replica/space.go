package replica

import (
	"syscall"

	"twofold/internal/errs"
	"twofold/metadata"
)

// reserve is how much of a drive is kept free for commands that free space: a full
// drive would take its replica out (its log can't grow, and Badger's mapped files
// end the process when they can't be written).
const reserve = 256 << 20

// space is a file system's, in bytes: what is free to this process, and all.
func space(path string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// admit refuses commands that take space when too few replicas have any.
func (g *Group) admit(c *metadata.Command) error {
	nodes, roomy := 0, 0
	for _, n := range *g.nodeList.Load() {
		if nodes++; !n.full.Load() {
			roomy++
		}
	}
	if nodes == 0 || roomy >= majority(nodes) || frees(c) {
		return nil
	}
	return errs.Newf("replica.Apply", errs.NoSpace, "the drives of the metadata are full: %d of %d have space", roomy, nodes)
}

// frees reports whether a command gives space back, or takes next to none.
func frees(c *metadata.Command) bool {
	switch c.Op {
	case metadata.OpBeginSession, metadata.OpEndSession, metadata.OpForgetSession, metadata.OpRevoke, metadata.OpDeleteBucket,
		metadata.OpDeleteObject, metadata.OpAbortUpload, metadata.OpUnlink, metadata.OpRmdir,
		metadata.OpFreeInode, metadata.OpFreeInodes, metadata.OpTrashDone, metadata.OpCompacted, metadata.OpNop:
		return true
	case metadata.OpBatch:
		b, ok := c.Body.(metadata.Batch)
		return ok && b.Frees()
	}
	return false
}
