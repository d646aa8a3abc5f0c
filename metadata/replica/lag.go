package replica

import (
	"sync"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// A leader writes a batch to its log, fsyncs it, and only then sends it on: two
// fsyncs in a row before a command is answered. Here the leader's fsync goes on
// while its followers write and fsync the same batch (section 10.2.1 of Ongaro's
// dissertation, "Writing to the leader's disk in parallel").
//
// The library counts the leader's own copy as soon as StoreLogs returns. So a command
// may be committed while the leader's copy is not durable yet. What makes that right:
//
//   - The leader applies, and so answers and shows, nothing before its own copy is
//     durable (stateHost.ApplyBatch). An answer still means copies on a majority.
//   - With an even number of voters a majority less one still meets every majority:
//     of 4 voters, 3 commit and 3 elect; 2 durable copies are in every electorate. So a
//     committed entry stays committed when a power cut takes the leader's copy, and a
//     follower that has applied it is never contradicted. With an odd number of voters
//     that does not hold, and the leader waits.
//   - Only commands are treated so, one batch at a time, within a segment of the log:
//     the next write of any kind to the log or to the term and vote waits. After a
//     crash the log's tail is torn in no way that it could not be before.
//
// lag is the fsync that goes on; it belongs to the log's files.
type lag struct {
	mu      sync.Mutex
	offered bool    // guarded by mu: StoreLogs of a leader is under way, and may return early
	started bool    // guarded by mu: it does
	job     *lagJob // guarded by mu: the latest one; nil before the first
}

// lagJob is one fsync.
type lagJob struct {
	first uint64 // index of the batch's first entry
	run   func(sync func() error) error
	done  chan struct{} // closed when err is set
	err   error
}

// offer begins a StoreLogs that may return before its fsync does. run is called with
// the fsync, on another goroutine; its error is the job's.
func (l *lag) offer(first uint64, run func(sync func() error) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered, l.started = true, false
	l.job = &lagJob{first: first, run: run, done: make(chan struct{})}
}

// take accepts the offer, if there is one: sync is run in the background. The log's
// file calls it.
func (l *lag) take(sync func() error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.offered || l.started {
		return false
	}
	l.started = true
	j := l.job
	go func() {
		j.err = j.run(sync)
		close(j.done)
	}()
	return true
}

// withdraw ends the offer, and reports whether it was taken.
func (l *lag) withdraw() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offered && !l.started {
		l.job = nil
	}
	l.offered = false
	return l.started
}

// wait waits until nothing goes on, and returns the error of what did.
func (l *lag) wait() error {
	l.mu.Lock()
	j := l.job
	l.mu.Unlock()
	if j == nil {
		return nil
	}
	<-j.done
	return j.err
}

// await waits until the entries up to index are durable, or gone is closed.
func (l *lag) await(index uint64, gone <-chan struct{}) error {
	l.mu.Lock()
	j := l.job
	l.mu.Unlock()
	if j == nil || index < j.first {
		return nil
	}
	select {
	case <-j.done:
		return j.err
	case <-gone:
		return errs.Newf("replica.lag", errs.Unavailable, "the replica is out")
	}
}

// mayLag reports whether a replica may count a batch before it is durable here: see
// lag. r is nil before the library runs.
func mayLag(r *raft.Raft, logs []*raft.Log) bool {
	if r == nil || r.State() != raft.Leader {
		return false
	}
	for _, e := range logs {
		if e.Type != raft.LogCommand {
			return false
		}
	}
	voters := 0
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters%2 == 0 && voters > 0
}
