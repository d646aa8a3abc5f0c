package repair

import (
	"slices"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/internal/errs"
)

// surveyed is what the drives of a set have of a blob, and what is to be done.
type surveyed struct {
	blob    twofold.Blob
	header  drive.ShardHeader  // of the rewritten shards, but for Index
	trailer drive.ShardTrailer // of the rewritten shards
	bytes   int64              // of a shard's file
	targets []*target
	absent  int   // shards whose drives are offline or full
	waiting int   // shards whose drives do not answer
	holds   []int // by slot: the index of its good shard, or -1
}

// coding is what all shards of a blob have in common.
type coding struct {
	data, parity uint8
	stripe       uint32
	size         int64
}

func codingOf(i drive.ShardInfo) coding {
	return coding{i.Header.Data, i.Header.Parity, i.Header.Stripe, i.Trailer.Size}
}

// survey decides which coding is the blob's (the one that enough shards agree on for
// it to be read back), which shards are good, and where the others go: each index to the
// slot it belongs to, or, where shards have moved, to one that has none.
// errs.NotFound: no drive has anything; errs.ReadQuorum: too few have.
func survey(cluster twofold.ClusterID, id twofold.BlobID, set twofold.SetID, states []engine.ShardState, bad erasure.Set) (*surveyed, error) {
	n := len(states)
	c, ok := agreed(cluster, id, set, states)
	if !ok {
		return nil, unreadable(id, states)
	}
	s := &surveyed{blob: twofold.Blob{ID: id, Set: set, Data: c.data, Parity: c.parity, Size: c.size}}
	holds := make([]int, n)
	s.holds = holds
	var have erasure.Set
	for at, st := range states {
		holds[at] = -1
		i := int(st.Info.Header.Index)
		if st.Err != nil || !belongs(cluster, id, set, n, st.Info) || codingOf(st.Info) != c {
			continue
		}
		s.header, s.trailer, s.bytes = st.Info.Header, st.Info.Trailer, st.Info.Bytes
		if !have.Has(i) && !bad.Has(i) {
			have = have.With(i)
			holds[at] = i
		}
	}
	order := engine.Placement(id, n)
	var free []int // slots without a good shard, whose own index another slot has
	assign := func(at, index int) {
		st := states[at]
		switch drv := st.Drive.State(); {
		case drv == drive.Offline || drv == drive.Full:
			s.absent++
		case st.Err == nil || errs.Is(st.Err, errs.NotFound) || errs.Is(st.Err, errs.Corrupt):
			s.targets = append(s.targets, &target{drv: st.Drive, index: index})
		default:
			s.waiting++ // not written over: perhaps its shard is good
		}
	}
	missing := erasure.Span(0, n) &^ have
	for index, at := range order {
		switch {
		case holds[at] >= 0:
		case missing.Has(index):
			missing = missing.Without(index)
			assign(at, index)
		default:
			free = append(free, at)
		}
	}
	for index := range n {
		if missing.Has(index) && len(free) > 0 {
			assign(free[0], index)
			free = free[1:]
		}
	}
	return s, nil
}

// belongs reports whether a shard is one of this blob at all.
func belongs(cluster twofold.ClusterID, id twofold.BlobID, set twofold.SetID, n int, i drive.ShardInfo) bool {
	h := i.Header
	return h.Cluster == cluster && h.Blob == id && h.Set == set && int(h.Index) < n && h.Stripe > 0 && i.Trailer.Size >= 0 &&
		int(h.Data)+int(h.Parity) == n && erasure.Valid(int(h.Data), int(h.Parity))
}

// agreed is the coding of which there are enough shards to read the blob. Two of
// them can't be: a blob is written once. If there were, nothing is certain, and
// nothing is written over.
func agreed(cluster twofold.ClusterID, id twofold.BlobID, set twofold.SetID, states []engine.ShardState) (coding, bool) {
	shards := make(map[coding]erasure.Set)
	for _, st := range states {
		if st.Err == nil && belongs(cluster, id, set, len(states), st.Info) {
			c := codingOf(st.Info)
			shards[c] = shards[c].With(int(st.Info.Header.Index))
		}
	}
	var found coding
	readable := 0
	for c, have := range shards {
		if have.Len() >= int(c.data) {
			found = c
			readable++
		}
	}
	return found, readable == 1
}

func unreadable(id twofold.BlobID, states []engine.ShardState) error {
	absent := func(st engine.ShardState) bool { return errs.Is(st.Err, errs.NotFound) }
	if !slices.ContainsFunc(states, func(st engine.ShardState) bool { return !absent(st) }) {
		return errs.Newf("repair.Heal", errs.NotFound, "no drive has anything of blob %s", id)
	}
	return errs.Newf("repair.Heal", errs.ReadQuorum, "too few good shards of blob %s are left to rebuild it", id)
}
