// Package plant names bugs that test builds can have (`go build -tags plant`, with
// TWOFOLD_PLANT naming one), so that test/history can be seen to find them. In every other
// build Is is constantly false, and the compiler leaves out what depends on it: the
// program has no such switch.
package plant

// Bug is one that can be planted.
type Bug string

// The bugs. Each breaks one step of "Why it is one history" (docs/design.md).
const (
	// GetSkipsRecall: GET and HEAD don't ask the lease table for unwritten bytes.
	GetSkipsRecall Bug = "get-skips-recall"
	// ListSkipsRecall: LIST does not.
	ListSkipsRecall Bug = "list-skips-recall"
	// EarlyCommit: DELETE is answered before raft has committed it.
	EarlyCommit Bug = "early-commit"
	// StaleAttr: the mount answers GETATTR from what it answered before, of which a
	// change elsewhere has told it nothing.
	StaleAttr Bug = "stale-attr"
	// AppendOffset: O_APPEND writes at the kernel's idea of the end.
	AppendOffset Bug = "append-offset"
	// LeadsUnproven: a node that raft once elected answers without promises of the others.
	LeadsUnproven Bug = "leads-unproven"
	// NoGrace: a server that takes over does not wait for the mounts of the one before.
	NoGrace Bug = "no-grace"
)

// All lists them.
func All() []Bug {
	return []Bug{GetSkipsRecall, ListSkipsRecall, EarlyCommit, StaleAttr, AppendOffset, LeadsUnproven, NoGrace}
}
