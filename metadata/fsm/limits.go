package fsm

import "twofold"

// Bounds on one command's write set, well below what the store takes in one write
// (kv.MaxBatchOps, kv.MaxBatchBytes). Being part of what commands mean, they may
// only change together with CommandVersion.
const (
	maxExtents     = 20_000    // extents that one command copies or lists
	maxWriteExts   = 10_000    // extents that one command puts over others
	maxInlineBytes = 4 << 20   // inline bytes that one command brings or copies
	maxDrop        = 10_000    // extents that one command drops
	maxReap        = 1000      // parts, results and the like that one command deletes
	maxCount       = 2000      // inodes or parts that one command counts
	maxAckReap     = 16        // kept results that any command deletes on the way
	mergeInline    = 4 << 10   // neighbouring inline extents are joined up to this length
	maxExtentData  = 256 << 10 // bytes of one inline extent
	maxRecord      = 800 << 10 // bytes of any value: the store takes a little more
	maxComponent   = 4 << 10   // bytes of a name's component
	maxKey         = 16 << 10  // bytes of a key: deep paths are longer than S3's
	maxTarget      = 4095      // bytes of a symlink's target, PATH_MAX - 1
	maxLinks       = 65_000    // hard links of an inode
	maxXattrName   = 255       // XATTR_NAME_MAX
	maxXattrValue  = 64 << 10  // XATTR_SIZE_MAX
	maxXattrs      = 256 << 10 // bytes of an inode's headers and attributes
	maxConfig      = 512 << 10
	maxBatchOps    = 512    // operations of a batch
	maxBatchSets   = 20_000 // changes of keys after which a batch is refused
	maxFrees       = 1000   // inodes that one command frees
	maxInos        = 64 << 10
	maxInoRanges   = 16     // of inode numbers that a session has left
	maxDepth       = 20_000 // directories above one that is moved
	permMask       = 0o7777
	permBits       = 0o777
	setUID         = 0o4000
	setGID         = 0o2000
	groupExec      = 0o010
)

// emptyMD5 is the ETag of no content.
const emptyMD5 = "d41d8cd98f00b204e9800998ecf8427e"

const maxFileLen = twofold.MaxFileLen
