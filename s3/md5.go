package s3

import (
	"hash"
	"runtime"
	"sync"

	md5simd "github.com/minio/md5-simd"
)

const (
	// lanesFrom is from how many bytes on a body's MD5 may be computed in a lane: a
	// small one is over before others could fill the lanes beside it.
	lanesFrom = 1 << 20
	// lanesOf is how many bodies share the vectors of one goroutine, AVX-512's width.
	lanesOf = 16
	// lanesWorth is how many bodies at once make lanes worth it. Measured with AVX-512,
	// MB/s a core where all lanes always have data: the standard library 780; lanes 600
	// with one body, 810 with four, 1,600 with eight, 2,700 with sixteen. In a server
	// bodies also wait for drives: there PUT of 8 MiB took as much processor time
	// with eight clients, and a fifth less with sixteen.
	lanesWorth = 10
)

// md5Hashes hands out hashes for the MD5 of large bodies. A few at once are the
// standard library's, each on its request's core. Many at once, where cores are what
// is short, are computed several to a core, in the lanes of vector instructions.
// Safe for concurrent use.
type md5Hashes struct {
	cores int

	mu     sync.Mutex // guards what follows
	active int        // large bodies under way
	groups []*laneGroup
	closed bool
}

// laneGroup is one goroutine's lanes. Guarded by md5Hashes.mu.
type laneGroup struct {
	server md5simd.Server
	hashes int           // made; they are reused and never closed, which would leak
	idle   []*laneHasher // of those
}

// laneHasher is a body's place in a group.
type laneHasher struct {
	md5simd.Hasher
	group *laneGroup
}

func newMD5Hashes() *md5Hashes {
	// Of GOMAXPROCS more may run than there are processors (cmd/twofold).
	return &md5Hashes{cores: min(runtime.NumCPU(), runtime.GOMAXPROCS(0))}
}

// begin says that a large body begins, and returns the hash that it should use, or
// nil where that is the standard library's. An end follows.
func (m *md5Hashes) begin() *laneHasher {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active++
	// While there are cores to spare, a body on each is faster than sharing one.
	if m.closed || m.active < max(lanesWorth, 4*m.cores) {
		return nil
	}
	for _, g := range m.groups {
		if h := g.take(); h != nil {
			return h
		}
	}
	if len(m.groups) >= m.cores {
		return nil
	}
	g := &laneGroup{server: md5simd.NewServer()}
	m.groups = append(m.groups, g)
	return g.take()
}

// take returns a hash that is not in use, or nil where all are.
func (g *laneGroup) take() *laneHasher {
	if n := len(g.idle); n > 0 {
		h := g.idle[n-1]
		g.idle = g.idle[:n-1]
		h.Reset()
		return h
	}
	if g.hashes == lanesOf {
		return nil
	}
	g.hashes++
	return &laneHasher{Hasher: g.server.NewHash(), group: g}
}

// end gives back what begin returned. Nobody uses h any more.
func (m *md5Hashes) end(h *laneHasher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active--
	if h != nil {
		h.group.idle = append(h.group.idle, h)
		m.shut()
	}
}

// close ends the goroutines, each when its last hash is given back.
func (m *md5Hashes) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.shut()
}

// shut ends the groups of a closed pool that nobody uses. The caller holds mu.
func (m *md5Hashes) shut() {
	if !m.closed {
		return
	}
	kept := m.groups[:0]
	for _, g := range m.groups {
		if len(g.idle) < g.hashes {
			kept = append(kept, g)
			continue
		}
		g.server.Close()
	}
	m.groups = kept
}

// startMD5 chooses how the body's MD5 is computed, after its size is known.
func (b *body) startMD5(m *md5Hashes) {
	b.sum5 = b.hashes.md5
	if b.size < lanesFrom {
		b.sum5.Reset()
		return
	}
	b.many = m
	if b.lane = m.begin(); b.lane != nil {
		b.sum5 = b.lane
		return
	}
	b.sum5.Reset()
}

// endMD5 gives back what startMD5 took.
func (b *body) endMD5() {
	if b.many != nil {
		b.many.end(b.lane)
	}
	b.many, b.lane, b.sum5 = nil, nil, nil
}

var _ hash.Hash = (*laneHasher)(nil)
