package replica

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"
	"github.com/zeebo/xxh3"

	"twofold/internal/errs"
)

// walMeta is the small durable state beside the log: which segments it has, and
// raft's term and vote. It implements raft-wal's MetaStore in the place of bbolt,
// which maps its file: an I/O error there would end the process.
//
// Two slot files are written in turn, each whole, with a sequence number and a hash.
// The valid one with the higher number counts, so a torn write loses only itself.
//
//	slot: xxh3-64 of the rest, as 16 hexadecimal digits, newline, JSON of metaState
type walMeta struct {
	mu    sync.Mutex
	dir   string
	state metaState // guarded by mu
	bad   error     // guarded by mu: after a failed write nothing is known, nothing is written
}

type metaState struct {
	Version int
	Seq     uint64
	Log     types.PersistentState
	Stable  map[string][]byte
	// Born has the ids of the segments that hold fsynced entries: without their
	// files the log is not what was acknowledged.
	Born map[uint64]bool
}

const metaVersion = 1

var _ types.MetaStore = (*walMeta)(nil)

func slotName(seq uint64) string { return [2]string{"meta-0", "meta-1"}[seq%2] }

// openMeta loads the state in dir, which may be empty.
func openMeta(dir string) (*walMeta, error) {
	m := &walMeta{dir: dir, state: metaState{Version: metaVersion}}
	found := false
	for seq := range uint64(2) {
		s, err := readSlot(filepath.Join(dir, slotName(seq)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errs.Is(err, errs.Corrupt): // torn: the other one counts
		case err != nil:
			return nil, err
		case s.Version != metaVersion:
			return nil, errs.Newf("replica.openMeta", errs.Unsupported, "log state of version %d, this program knows %d", s.Version, metaVersion)
		case !found || s.Seq > m.state.Seq:
			m.state, found = s, true
		}
	}
	if !found {
		// A segment is made after the state names it: without a state there is none.
		// (A torn first slot alone is a log that was never finished.)
		if segs, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(segs) > 0 {
			return nil, errs.Newf("replica.openMeta", errs.Corrupt, "the log's state in %s is gone or damaged", dir)
		}
	}
	if m.state.Stable == nil {
		m.state.Stable = map[string][]byte{}
	}
	if m.state.Born == nil {
		m.state.Born = map[uint64]bool{}
	}
	return m, nil
}

func readSlot(path string) (metaState, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return metaState{}, err
	}
	return decodeSlot(raw)
}

// decodeSlot parses a slot file.
func decodeSlot(raw []byte) (s metaState, err error) {
	const op = "replica.decodeSlot"
	const head = 17
	if len(raw) < head || raw[head-1] != '\n' || string(raw[:head-1]) != hex64(xxh3.Hash(raw[head:])) {
		return s, errs.Newf(op, errs.Corrupt, "a slot that does not match its hash")
	}
	if err := json.Unmarshal(raw[head:], &s); err != nil {
		return s, errs.E(op, errs.Corrupt, err)
	}
	return s, nil
}

func hex64(v uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[v>>(60-4*i)&15]
	}
	return string(b[:])
}

// commit writes the state to the slot that is not the current one. The caller holds mu.
func (m *walMeta) commit(change func(*metaState)) error {
	if m.bad != nil {
		return m.bad
	}
	s := m.state
	s.Seq++
	change(&s)
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(m.dir, slotName(s.Seq))
	_, err = os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	err = writeSync(path, append([]byte(hex64(xxh3.Hash(body))+"\n"), body...))
	if err == nil && fresh {
		err = syncDir(m.dir)
	}
	if err != nil {
		m.bad = errs.E("replica.walMeta", errs.Other, err)
		return m.bad
	}
	m.state = s
	return nil
}

// Load implements types.MetaStore.
func (m *walMeta) Load(string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Log, nil
}

// CommitState implements types.MetaStore.
func (m *walMeta) CommitState(l types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(func(s *metaState) {
		s.Log = l
		born := map[uint64]bool{}
		for _, seg := range l.Segments {
			if s.Born[seg.ID] {
				born[seg.ID] = true
			}
		}
		s.Born = born
	})
}

// GetStable implements types.MetaStore.
func (m *walMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Stable[string(key)], nil
}

// SetStable implements types.MetaStore.
func (m *walMeta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(func(s *metaState) {
		stable := make(map[string][]byte, len(s.Stable)+1)
		for k, v := range s.Stable {
			stable[k] = v
		}
		stable[string(key)] = append([]byte(nil), value...)
		s.Stable = stable
	})
}

// bear notes that a segment holds fsynced entries.
func (m *walMeta) bear(id uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Born[id] {
		return nil
	}
	return m.commit(func(s *metaState) {
		born := map[uint64]bool{id: true}
		for k := range s.Born {
			born[k] = true
		}
		s.Born = born
	})
}

func (m *walMeta) born(id uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Born[id]
}

// Close implements types.MetaStore.
func (m *walMeta) Close() error { return nil }
