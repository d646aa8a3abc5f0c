package kv

import "sync"

// tracker knows which versions snapshots still read, so that compactions may drop
// the versions behind them and no others.
type tracker struct {
	mu      sync.Mutex
	current uint64        // the version that new snapshots read
	open    []heldVersion // ascending; the first one has count > 0, if there is any
}

// heldVersion counts the open snapshots of one version.
type heldVersion struct {
	version uint64
	count   int
}

// acquire returns the version for a new snapshot and holds it.
func (t *tracker) acquire() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.open); n > 0 && t.open[n-1].version == t.current {
		t.open[n-1].count++
	} else {
		t.open = append(t.open, heldVersion{t.current, 1})
	}
	return t.current
}

// version is the one that new snapshots read.
func (t *tracker) version() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

// oldest is a version that no snapshot, of now or later, reads before.
func (t *tracker) oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.open) > 0 {
		return t.open[0].version
	}
	return t.current
}

// release ends a snapshot of version v.
func (t *tracker) release(v uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.open) - 1; i >= 0; i-- {
		if t.open[i].version == v {
			t.open[i].count--
			break
		}
	}
	n := 0
	for n < len(t.open) && t.open[n].count == 0 {
		n++
	}
	t.open = t.open[n:]
}

// publish makes v the version of new snapshots and returns the version at or below
// which only the newest value of a key is needed.
func (t *tracker) publish(v uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = v
	if len(t.open) > 0 {
		return t.open[0].version
	}
	return v
}
