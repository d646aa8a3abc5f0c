package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
	"twofold/metadata/kv"
)

// snapStore keeps a replica's newest raft snapshot: a checkpoint of its index and,
// in the same directory, what raft needs to know of it. A snapshot is there, whole
// and durable, or not at all: it is put in place by a rename.
//
//	snapshots/<index>-<term>/   the checkpoint's files, snapMeta in META
//	snapshots/tmp-<n>/          one that is being made
type snapStore struct {
	dir string
	log *slog.Logger

	mu     sync.Mutex
	latest *snapMeta // guarded by mu; nil: none
	next   int       // guarded by mu; number of the next temporary directory

	readers  int      // guarded by mu; streams that are being read
	releases []func() // guarded by mu; what to give back when readers is 0
}

// snapMeta describes a snapshot. It is on disk, as JSON.
type snapMeta struct {
	Version            int
	Index, Term        uint64 // of the last entry it covers
	Applied            uint64 // applied index of the state machine in it
	Configuration      []raft.Server
	ConfigurationIndex uint64
}

const (
	snapVersion  = 1
	snapMetaName = "META"
	snapTmp      = "tmp-"
)

var _ raft.SnapshotStore = (*snapStore)(nil)

func (m *snapMeta) id() string { return fmt.Sprintf("%020d-%d", m.Index, m.Term) }

// raftMeta is what the library calls the same.
func (m *snapMeta) raftMeta(size int64) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: m.id(), Index: m.Index, Term: m.Term,
		Configuration: raft.Configuration{Servers: m.Configuration}, ConfigurationIndex: m.ConfigurationIndex,
		Size: size,
	}
}

// openSnaps opens the store in dir: the newest whole snapshot stays, all else goes.
func openSnaps(dir string, log *slog.Logger) (*snapStore, error) {
	if err := mkdirSync(filepath.Dir(dir), dir); err != nil {
		return nil, err
	}
	s := &snapStore{dir: dir, log: log}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		m, err := s.load(e.Name())
		if err != nil && !strings.HasPrefix(e.Name(), snapTmp) {
			return nil, err // a published snapshot is never damaged by a crash
		}
		if err == nil && (s.latest == nil || m.Index > s.latest.Index) {
			s.latest = m
		}
	}
	s.tidy()
	return s, nil
}

// load reads and checks a published snapshot.
func (s *snapStore) load(name string) (*snapMeta, error) {
	const op = "replica.snapshots"
	if strings.HasPrefix(name, snapTmp) {
		return nil, errs.Newf(op, errs.NotFound, "not published")
	}
	dir := filepath.Join(s.dir, name)
	if err := kv.VerifyCheckpoint(dir); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, snapMetaName))
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	m, err := decodeSnapMeta(raw)
	if err != nil {
		return nil, err
	}
	if m.id() != name {
		return nil, errs.Newf(op, errs.Corrupt, "snapshot %s calls itself %s", name, m.id())
	}
	return m, nil
}

// decodeSnapMeta parses a META file.
func decodeSnapMeta(raw []byte) (m *snapMeta, err error) {
	const op = "replica.snapshots"
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errs.E(op, errs.Corrupt, err)
	}
	if m == nil || m.Version != snapVersion || len(m.Configuration) == 0 {
		return nil, errs.Newf(op, errs.Corrupt, "a snapshot's META that this program does not understand")
	}
	return m, nil
}

// tidy removes everything but the latest snapshot. Readers have their files open.
func (s *snapStore) tidy() {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if s.latest == nil || e.Name() != s.latest.id() {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	if err != nil {
		s.log.Warn("an old snapshot stays", "dir", s.dir, "err", err)
	}
}

// newest returns the latest snapshot and its directory; nil where there is none.
func (s *snapStore) newest() (*snapMeta, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil {
		return nil, ""
	}
	return s.latest, filepath.Join(s.dir, s.latest.id())
}

// tempDir names a directory to make a snapshot in. It does not exist yet.
func (s *snapStore) tempDir() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return filepath.Join(s.dir, fmt.Sprintf("%s%d", snapTmp, s.next))
}

// publish puts the snapshot in dir, durable already, in its place. errs.Stale where
// a newer one arrived meanwhile, errs.Exists where there is this one already.
func (s *snapStore) publish(dir string, m *snapMeta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil && m.Index == s.latest.Index {
		return errs.Newf("replica.snapshots", errs.Exists, "there is a snapshot %s", m.id())
	}
	if s.latest != nil && m.Index < s.latest.Index {
		return errs.Newf("replica.snapshots", errs.Stale, "there is a newer snapshot than %s", m.id())
	}
	if err := os.Rename(dir, filepath.Join(s.dir, m.id())); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	old := s.latest
	s.latest = m
	if old != nil {
		if err := os.RemoveAll(filepath.Join(s.dir, old.id())); err != nil {
			s.log.Warn("an old snapshot stays", "dir", s.dir, "err", err)
		}
	}
	return nil
}

// List implements raft.SnapshotStore.
func (s *snapStore) List() ([]*raft.SnapshotMeta, error) {
	m, _ := s.newest()
	if m == nil {
		return nil, nil
	}
	return []*raft.SnapshotMeta{m.raftMeta(0)}, nil
}

// Open implements raft.SnapshotStore.
func (s *snapStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == nil || s.latest.id() != id {
		return nil, nil, errs.Newf("replica.snapshots", errs.NotFound, "snapshot %s is gone", id)
	}
	p, err := pack(filepath.Join(s.dir, id))
	if err != nil {
		return nil, nil, errs.E("replica.snapshots", errs.Other, err)
	}
	s.readers++
	return s.latest.raftMeta(p.size), &snapReader{packer: p, store: s}, nil
}

// snapReader is a snapshot's stream. Until it is closed, the tables it reads stay.
type snapReader struct {
	*packer
	store *snapStore
	once  sync.Once
}

// Close implements io.Closer.
func (r *snapReader) Close() error {
	err := r.packer.Close()
	r.once.Do(func() {
		r.store.mu.Lock()
		r.store.readers--
		r.store.mu.Unlock()
		r.store.release()
	})
	return err
}

// keep protects the tables of a cut that was published, and gives those of the
// snapshot before it back when nobody reads that any more.
func (s *snapStore) keep(cut *kv.Cut) {
	s.mu.Lock()
	s.releases = append(s.releases, cut.Keep())
	s.mu.Unlock()
	s.release()
}

func (s *snapStore) release() {
	s.mu.Lock()
	var due []func()
	if s.readers == 0 {
		due, s.releases = s.releases, nil
	}
	s.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// Create implements raft.SnapshotStore.
func (s *snapStore) Create(_ raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &snapSink{store: s, meta: &snapMeta{
		Version: snapVersion, Index: index, Term: term,
		Configuration: c.Servers, ConfigurationIndex: at,
	}}, nil
}
