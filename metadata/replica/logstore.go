package replica

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"

	"twofold/internal/errs"
)

// disk is what a replica's log is kept in: raft-wal, or a wrapper around it that
// tests put there to hang and to fail.
type disk interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// logStore is the log of a replica. It remembers recent entries, so that followers
// are fed without reading files; it knows how long the drive has been busy; and it
// ends the goroutine of a call that failed, after telling its replica: the library
// would panic, or go on, where a replica must be taken out.
type logStore struct {
	disk disk
	fail func(error)  // takes the replica out; does not block
	ok   func() error // whether the drive is still the one it was
	busy busyClock

	mu    sync.RWMutex
	cache []*raft.Log // guarded by mu; ring by index
	bytes int         // guarded by mu; of the data in cache
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.StableStore       = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

const (
	cacheEntries = 1024
	cacheBytes   = 8 << 20 // the replicas of a process share the entries' bytes
	segmentBytes = 32 << 20
)

// openDisk opens the log in dir.
func openDisk(dir string, log *raftLog) (disk, error) {
	if err := mkdirSync(filepath.Dir(dir), dir); err != nil {
		return nil, err
	}
	meta, err := openMeta(dir)
	if err != nil {
		return nil, err
	}
	w, err := wal.Open(dir,
		wal.WithMetaStore(meta),
		wal.WithSegmentFiler(newSegments(dir, meta, types.VFS(walFS{}))),
		wal.WithSegmentSize(segmentBytes),
		wal.WithLogger(log),
	)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, wal.ErrCorrupt) {
		return nil, errs.E("replica.openDisk", errs.Corrupt, err)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
}

func newLogStore(d disk, fail func(error), ok func() error) *logStore {
	return &logStore{disk: d, fail: fail, ok: ok, cache: make([]*raft.Log, cacheEntries)}
}

// die takes the replica out and does not return. The library's goroutines end in
// order (their deferred calls run: what they were asked is answered with a refusal).
func (s *logStore) die(err error) {
	s.fail(err)
	runtime.Goexit()
}

// IsMonotonic implements raft.MonotonicLogStore.
func (s *logStore) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) { return s.disk.FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) { return s.disk.LastIndex() }

// GetLog implements raft.LogStore.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.RLock()
	c := s.cache[index%cacheEntries]
	s.mu.RUnlock()
	if c != nil && c.Index == index {
		*l = *c
		return nil
	}
	err := s.disk.GetLog(index, l)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	s.die(err)
	return err
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore: the entries are on the drive when it returns,
// and the drive was still there afterwards.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	done := s.busy.start()
	err := s.disk.StoreLogs(logs)
	if err == nil {
		err = s.ok()
	}
	done()
	if err != nil {
		s.die(err)
	}
	s.remember(logs)
	return nil
}

func (s *logStore) remember(logs []*raft.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range logs {
		slot := &s.cache[l.Index%cacheEntries]
		if *slot != nil {
			s.bytes -= len((*slot).Data)
		}
		*slot = l
		s.bytes += len(l.Data)
	}
	if s.bytes > cacheBytes {
		// Large entries: drop all but the newest.
		clear(s.cache)
		last := logs[len(logs)-1]
		s.cache[last.Index%cacheEntries], s.bytes = last, len(last.Data)
	}
}

// DeleteRange implements raft.LogStore.
func (s *logStore) DeleteRange(first, last uint64) error {
	s.mu.Lock()
	clear(s.cache)
	s.bytes = 0
	s.mu.Unlock()
	done := s.busy.start()
	err := s.disk.DeleteRange(first, last)
	done()
	if err != nil {
		s.die(err)
	}
	return nil
}

// Set implements raft.StableStore.
func (s *logStore) Set(key, val []byte) error {
	done := s.busy.start()
	err := s.disk.Set(key, val)
	done()
	if err != nil {
		s.die(err)
	}
	return nil
}

// Get implements raft.StableStore.
func (s *logStore) Get(key []byte) ([]byte, error) { return s.disk.Get(key) }

// SetUint64 implements raft.StableStore.
func (s *logStore) SetUint64(key []byte, val uint64) error {
	done := s.busy.start()
	err := s.disk.SetUint64(key, val)
	done()
	if err != nil {
		s.die(err)
	}
	return nil
}

// GetUint64 implements raft.StableStore.
func (s *logStore) GetUint64(key []byte) (uint64, error) { return s.disk.GetUint64(key) }

// busyClock knows since when the oldest of the calls in progress has been running.
type busyClock struct {
	slots [4]atomic.Int64 // start of a call, in nanoseconds of the wall clock; 0: free
}

// start notes a call; the result ends it.
func (b *busyClock) start() func() {
	now := time.Now().UnixNano()
	for i := range b.slots {
		if b.slots[i].CompareAndSwap(0, now) {
			return func() { b.slots[i].Store(0) }
		}
	}
	return func() {} // four calls are at work already: one more tells nothing new
}

// busyFor is how long the oldest call has been running; 0 when none is.
func (b *busyClock) busyFor(now time.Time) time.Duration {
	var longest time.Duration
	for i := range b.slots {
		if at := b.slots[i].Load(); at != 0 {
			longest = max(longest, time.Duration(now.UnixNano()-at))
		}
	}
	return longest
}
