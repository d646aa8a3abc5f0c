package replica

import (
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
)

// Entry is a committed command of the log.
type Entry = fsm.Entry

// StateMachine applies commands to a kv.Store. Implemented by fsm.Machine.
type StateMachine interface {
	// ApplyBatch applies entries in order, the applied index in the same write as
	// the changes, and returns a result for each. Entries that were applied before
	// change nothing. An error takes the replica out.
	ApplyBatch(entries []Entry) ([]metadata.Result, error)
	// View runs fn on a snapshot of what has been applied.
	View(fn func(metadata.View) error) error
	// Applied is the index of the last entry that Views see.
	Applied() uint64
}

var _ StateMachine = (*fsm.Machine)(nil)

// index is a replica's applied state: the store and the machine on it.
type index struct {
	store   *kv.Badger
	machine StateMachine
}

// stateHost is the raft.FSM of a replica.
type stateHost struct {
	base       string // of the kv store
	snaps      *snapStore
	newMachine func(kv.Store) (StateMachine, error)
	fail       func(error)
	log        *slog.Logger
	verify     bool            // at the first open
	verified   func(bytes int) // of verify

	cur atomic.Pointer[index]

	// Of the library's goroutine that applies:
	entries []Entry

	held    held          // of what it was given
	holdFor time.Duration // at most; negative: nothing is held

	// What was applied since the last snapshot, for the policy in snapshots.go.
	sinceEntries, sinceBytes atomic.Int64

	exchange        *exchange    // with the other replicas of the process; may be nil
	waiting         atomic.Int64 // callers of submit, each of whom may need a result
	taken, computed atomic.Int64 // entries, by how their changes came

	busy busyClock // calls of the index in progress
}

var _ raft.BatchingFSM = (*stateHost)(nil)

// open opens the index: the one that was closed cleanly, or what the latest
// snapshot holds.
func (h *stateHost) open(fresh bool) error {
	if old := h.cur.Load(); old != nil {
		if err := old.store.Close(); err != nil {
			h.log.Warn("closing an index", "err", err)
		}
	}
	meta, dir := h.snaps.newest()
	store, err := kv.Open(h.base, kv.Options{
		Checkpoint: dir, Fresh: fresh, Bulky: fsm.Bulky, Logger: h.log, Verify: h.verify, Verified: h.verified,
	})
	if err != nil {
		return err
	}
	m, err := h.newMachine(store)
	if err == nil && meta != nil && m.Applied() < meta.Applied {
		// It was closed cleanly, and is older than the snapshot all the same:
		// the log no longer has what it lacks.
		err = errs.Newf("replica.open", errs.Stale, "the index has applied %d, its snapshot %d", m.Applied(), meta.Applied)
	}
	if err != nil {
		if cerr := store.Close(); cerr != nil {
			h.log.Warn("closing an index", "err", cerr)
		}
		if errs.Is(err, errs.Stale) && !fresh {
			return h.open(true)
		}
		return err
	}
	h.share(m)
	h.verify = false // what is rebuilt later comes from a process that lives
	h.cur.Store(&index{store, m})
	return nil
}

// die takes the replica out and ends the goroutine: see logStore.die.
func (h *stateHost) die(err error) {
	h.fail(err)
	runtime.Goexit()
}

// Apply implements raft.FSM.
func (h *stateHost) Apply(l *raft.Log) any { return h.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. A command's response is a *metadata.Result;
// nil where its changes were taken, which means an unknown outcome to submit.
func (h *stateHost) ApplyBatch(logs []*raft.Log) []any {
	h.entries = h.entries[:0]
	bytes := 0
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			h.entries = append(h.entries, Entry{Index: l.Index, Term: l.Term, Data: l.Data})
			bytes += len(l.Data)
		}
	}
	out := make([]any, len(logs))
	if len(h.entries) == 0 {
		return out
	}
	results, err := h.applyNext(h.entries, bytes)
	if err != nil {
		h.die(err)
	}
	h.sinceEntries.Add(int64(len(h.entries)))
	h.sinceBytes.Add(int64(bytes))
	clear(h.entries) // keep no command alive
	for i, n := 0, 0; i < len(logs); i++ {
		if logs[i].Type == raft.LogCommand {
			if results[n] != nil {
				out[i] = results[n]
			}
			n++
		}
	}
	return out
}

// Snapshot implements raft.FSM. It runs between two batches, so that the cut is of
// exactly the entries that the library says it is.
func (h *stateHost) Snapshot() (raft.FSMSnapshot, error) {
	if err := h.settle(); err != nil {
		h.die(err)
	}
	cur := h.cur.Load()
	dir := h.snaps.tempDir()
	cut, err := cur.store.Cut(dir)
	if err != nil {
		return nil, err
	}
	return &hostSnapshot{cut: cut, dir: dir, applied: cur.machine.Applied()}, nil
}

// Restore implements raft.FSM: the library has just put a leader's snapshot into
// our store; the index is rebuilt from its files, not from the stream.
func (h *stateHost) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := h.reopen(); err != nil {
		h.die(err)
	}
	h.sinceEntries.Store(0)
	h.sinceBytes.Store(0)
	return nil
}

// reopen opens the index that the latest snapshot holds, which has what is held.
func (h *stateHost) reopen() error {
	h.held.mu.Lock()
	defer h.held.mu.Unlock()
	h.held.entries, h.held.bytes = nil, 0
	return h.open(true)
}

// hostSnapshot implements raft.FSMSnapshot.
type hostSnapshot struct {
	cut     *kv.Cut
	dir     string
	applied uint64
	adopted bool
}

// Persist implements raft.FSMSnapshot. The sink's Close does the work.
func (s *hostSnapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*snapSink)
	if !ok {
		return errs.Newf("replica.snapshot", errs.Other, "a sink of type %T", sink)
	}
	k.adopt(s.cut, s.dir, s.applied)
	s.adopted = true
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *hostSnapshot) Release() {
	if !s.adopted {
		s.cut.Discard()
	}
}

// kvDir is where a replica keeps its index.
func kvDir(g0 string) string { return filepath.Join(g0, "kv") }
