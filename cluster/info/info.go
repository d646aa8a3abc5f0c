// Package info is what `twofold admin info` tells of a store: the facts as the node that
// leads sees them, and what they mean in a line (Judge). It is pure: facts come in as
// values. The names in JSON are documented in docs/operations.md; on the wire fields
// have numbers. Both are only ever added to.
package info

// Status is how a store is, in a word.
type Status string

// From good to bad.
const (
	OK          Status = "ok"          // everything is there
	Degraded    Status = "degraded"    // everything can be read and written, and bears less than it should
	ReadOnly    Status = "read-only"   // everything can be read, and nothing written
	Unavailable Status = "unavailable" // something can't be read
)

// Info is a store at a moment. Lengths of time are in whole seconds where their name says
// nothing else, space in bytes.
type Info struct {
	Status   Status   `cbor:"1,keyasint" json:"status"`
	Problems []string `cbor:"2,keyasint" json:"problems"` // sentences, the worst first; none where Status is OK
	Notes    []string `cbor:"3,keyasint" json:"notes"`    // what is no problem
	// Complete: it is what the node that leads knows. Otherwise none was found, or
	// it could not be asked, and it is what AnsweredBy knows by itself: nodes, its own drives and replicas.
	Complete   bool     `cbor:"4,keyasint" json:"complete"`
	AnsweredBy string   `cbor:"5,keyasint" json:"answered_by"`
	Time       string   `cbor:"6,keyasint" json:"time"`     // by that node's clock, RFC 3339
	Store      string   `cbor:"7,keyasint" json:"store_id"` // empty: not known yet
	Nodes      []Node   `cbor:"8,keyasint" json:"nodes"`
	Pools      []Pool   `cbor:"9,keyasint" json:"pools"`
	Sets       []Set    `cbor:"10,keyasint" json:"sets"`
	Drives     []Drive  `cbor:"11,keyasint" json:"drives"`
	Metadata   Metadata `cbor:"12,keyasint" json:"metadata"`
	Capacity   Capacity `cbor:"13,keyasint" json:"capacity"`
	Healing    Healing  `cbor:"14,keyasint" json:"healing"`
	Buckets    int      `cbor:"15,keyasint" json:"buckets"` // -1: not known
	Mounts     []Mount  `cbor:"16,keyasint" json:"mounts"`
	// Unasked says which node leads, and why it could not be asked, where Complete is false
	// for that reason.
	Unasked string `cbor:"17,keyasint" json:"unasked,omitempty"`
}

// Node is a server process, as the node that answers reaches it.
type Node struct {
	Name    string `cbor:"1,keyasint" json:"node"` // its URL; of a store on one node, the host's name
	Up      bool   `cbor:"2,keyasint" json:"up"`
	Why     string `cbor:"3,keyasint" json:"why,omitempty"`  // while it is down
	Since   int64  `cbor:"4,keyasint" json:"since_seconds"`  // that Up is as it is
	Version string `cbor:"5,keyasint" json:"version"`        // of the program, as it said last
	Uptime  int64  `cbor:"6,keyasint" json:"uptime_seconds"` // -1: not known
	Leads   bool   `cbor:"7,keyasint" json:"leads"`
	Leading int64  `cbor:"8,keyasint" json:"leading_seconds,omitempty"` // since when, where Leads
	// SkewMillis is how far its clock is ahead of that of the node that answers; RTTMicros
	// is of the last ping. 0 of that node itself.
	SkewMillis int64 `cbor:"9,keyasint" json:"skew_ms"`
	RTTMicros  int64 `cbor:"10,keyasint" json:"rtt_us"`
}

// Pool is an argument of the command line.
type Pool struct {
	Pool   int    `cbor:"1,keyasint" json:"pool"` // from 1
	Arg    string `cbor:"2,keyasint" json:"arg"`
	Sets   int    `cbor:"3,keyasint" json:"sets"`
	Drives int    `cbor:"4,keyasint" json:"drives"`
	Joined bool   `cbor:"5,keyasint" json:"joined"` // false: it is being added, some of its drives are not there
}

// Set is an erasure set and what it can do now. Need is of STANDARD objects that were
// written while all drives were there.
type Set struct {
	Set        string `cbor:"1,keyasint" json:"set"` // POOL/SET, both from 1
	Drives     int    `cbor:"2,keyasint" json:"drives"`
	Parity     int    `cbor:"3,keyasint" json:"parity"`
	Readable   int    `cbor:"4,keyasint" json:"readable"` // drives that are there and are not being refilled
	Writable   int    `cbor:"5,keyasint" json:"writable"` // drives that take shards
	NeedRead   int    `cbor:"6,keyasint" json:"need_read"`
	NeedWrite  int    `cbor:"7,keyasint" json:"need_write"`
	CanRead    bool   `cbor:"8,keyasint" json:"can_read"`
	CanWrite   bool   `cbor:"9,keyasint" json:"can_write"`
	BearReads  int    `cbor:"10,keyasint" json:"bears_reads"` // how many more of its drives may be lost now
	BearWrites int    `cbor:"11,keyasint" json:"bears_writes"`
}

// States of drives: those of engine/drive, and one of which nothing is known here.
const (
	DriveOnline  = "online"
	DriveSuspect = "suspect"
	DriveOffline = "offline"
	DriveHealing = "healing"
	DriveFull    = "full"
	DriveUnknown = "unknown"
)

// Drive is a position of a set, and what is there.
type Drive struct {
	Node  string `cbor:"1,keyasint" json:"node"`
	Path  string `cbor:"2,keyasint" json:"path"`
	ID    string `cbor:"3,keyasint" json:"id"`    // empty: not known
	Set   string `cbor:"4,keyasint" json:"set"`   // as in Set
	Index int    `cbor:"5,keyasint" json:"index"` // in its set, from 1
	State string `cbor:"6,keyasint" json:"state"`
	Total uint64 `cbor:"7,keyasint" json:"total_bytes"` // of its file system; 0: not known
	Free  uint64 `cbor:"8,keyasint" json:"free_bytes"`
	// Healing: it is being refilled, also where State hides it. Refill is how far that is.
	Healing bool    `cbor:"9,keyasint" json:"healing"`
	Refill  *Refill `cbor:"10,keyasint,omitempty" json:"refill,omitempty"`
}

// Used is what is in use of the drive's file system.
func (d Drive) Used() uint64 { return d.Total - min(d.Free, d.Total) }

// Refill is a walk over a set for what its drives lack.
type Refill struct {
	Since   int64 `cbor:"1,keyasint" json:"since_seconds"`
	Seen    int64 `cbor:"2,keyasint" json:"blobs_seen"`
	Lacking int64 `cbor:"3,keyasint" json:"blobs_lacking"` // found so far
	Done    int64 `cbor:"4,keyasint" json:"blobs_done"`
}

// Metadata is the raft group.
type Metadata struct {
	Wanted   int       `cbor:"1,keyasint" json:"replicas_wanted"`
	Voters   int       `cbor:"2,keyasint" json:"voters"`
	Live     int       `cbor:"3,keyasint" json:"live"`  // voters that answer
	Bears    int       `cbor:"4,keyasint" json:"bears"` // how many more may be lost
	Quorum   bool      `cbor:"5,keyasint" json:"quorum"`
	Term     uint64    `cbor:"6,keyasint" json:"term"`
	Outage   string    `cbor:"7,keyasint" json:"outage,omitempty"` // why nothing is decided
	Replicas []Replica `cbor:"8,keyasint" json:"replicas"`
}

// Replica is a metadata replica.
type Replica struct {
	Drive   string `cbor:"1,keyasint" json:"drive"` // its id
	Node    string `cbor:"2,keyasint" json:"node"`  // empty: not known
	Path    string `cbor:"3,keyasint" json:"path"`
	Voter   bool   `cbor:"4,keyasint" json:"voter"`
	Leader  bool   `cbor:"5,keyasint" json:"leader"`
	Last    uint64 `cbor:"6,keyasint" json:"last"` // index of the last entry of its log, when it was heard of
	Applied uint64 `cbor:"7,keyasint" json:"applied"`
	Behind  uint64 `cbor:"8,keyasint" json:"behind"` // entries, of the leader's log
	// ContactMillis is since when nothing was heard of it; -1: never, or not known.
	ContactMillis int64  `cbor:"9,keyasint" json:"contact_ms"`
	Lost          bool   `cbor:"10,keyasint" json:"lost"`
	Why           string `cbor:"11,keyasint" json:"why,omitempty"` // where it is lost
}

// Capacity is the store's space. Raw counts each file system once.
type Capacity struct {
	RawTotal    uint64 `cbor:"1,keyasint" json:"raw_total_bytes"`
	RawFree     uint64 `cbor:"2,keyasint" json:"raw_free_bytes"`
	UsableTotal uint64 `cbor:"3,keyasint" json:"usable_total_bytes"` // content, at each set's parity
	UsableFree  uint64 `cbor:"4,keyasint" json:"usable_free_bytes"`
}

// Used is how much content that is which can't be written any more.
func (c Capacity) Used() uint64 { return c.UsableTotal - min(c.UsableFree, c.UsableTotal) }

// Healing is what repair has done since the node began to lead.
type Healing struct {
	Refilling     int    `cbor:"1,keyasint" json:"drives_refilling"`
	Queued        int    `cbor:"2,keyasint" json:"blobs_queued"`
	Healed        int64  `cbor:"3,keyasint" json:"shards_healed"`
	HealedBytes   int64  `cbor:"4,keyasint" json:"bytes_healed"`
	Unrecoverable int64  `cbor:"5,keyasint" json:"too_few_shards"` // heals that found too few good shards; tried again
	Failed        int64  `cbor:"6,keyasint" json:"failed"`
	Scrubbing     bool   `cbor:"7,keyasint" json:"scrubbing"`
	ScrubbedBlobs int64  `cbor:"8,keyasint" json:"blobs_scrubbed"`
	ScrubbedBytes int64  `cbor:"9,keyasint" json:"bytes_scrubbed"`
	ScrubBad      int64  `cbor:"10,keyasint" json:"scrub_bad_shards"`
	ScrubSet      string `cbor:"11,keyasint" json:"scrub_set,omitempty"` // where it is
}

// Mount is a mount's session.
type Mount struct {
	Session   uint64 `cbor:"1,keyasint" json:"session"`
	Peer      string `cbor:"2,keyasint" json:"peer"`    // address that it is connected from; empty while it is not
	Process   string `cbor:"3,keyasint" json:"process"` // PID.START@BOOT@MACHINE
	Connected bool   `cbor:"4,keyasint" json:"connected"`
	Silent    int64  `cbor:"5,keyasint" json:"silent_seconds"`
	Opens     int    `cbor:"6,keyasint" json:"open_inodes"`
}

// Fill makes lists that are nil empty ones: in JSON they are [] then, not null.
func (in *Info) Fill() {
	fill(&in.Problems)
	fill(&in.Notes)
	fill(&in.Nodes)
	fill(&in.Pools)
	fill(&in.Sets)
	fill(&in.Drives)
	fill(&in.Mounts)
	fill(&in.Metadata.Replicas)
}

func fill[T any](s *[]T) {
	if *s == nil {
		*s = []T{}
	}
}
