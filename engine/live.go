package engine

import (
	"sync"

	"twofold"
)

// liveBlobs knows which blobs are being written or healed in this process, so that
// repair leaves an unfinished write alone and a delete is not undone by a heal.
type liveBlobs struct {
	mu       sync.Mutex
	writing  map[twofold.BlobID]struct{}
	deleting map[twofold.BlobID]int // deletes under way
	healing  map[twofold.BlobID]*healMark
}

type healMark struct {
	count   int  // heals under way; guarded by liveBlobs.mu
	deleted bool // a delete of the blob began, or was under way, since; guarded by liveBlobs.mu
}

func (l *liveBlobs) init() {
	l.writing = make(map[twofold.BlobID]struct{})
	l.deleting = make(map[twofold.BlobID]int)
	l.healing = make(map[twofold.BlobID]*healMark)
}

func (l *liveBlobs) beginWrite(b twofold.BlobID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.writing[b]; ok {
		return false
	}
	l.writing[b] = struct{}{}
	return true
}

func (l *liveBlobs) endWrite(b twofold.BlobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.writing, b)
}

func (l *liveBlobs) beginDelete(b twofold.BlobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deleting[b]++
	if h := l.healing[b]; h != nil {
		h.deleted = true
	}
}

func (l *liveBlobs) endDelete(b twofold.BlobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deleting[b]--; l.deleting[b] <= 0 {
		delete(l.deleting, b)
	}
}

// Writing reports whether the blob is being written in this process now. Repair
// leaves it alone: Write itself reports what is missing at its end.
func (e *Engine) Writing(b twofold.BlobID) bool {
	e.live.mu.Lock()
	defer e.live.mu.Unlock()
	_, ok := e.live.writing[b]
	return ok
}

// BeginHeal announces that shards of a blob are about to be rewritten. The function
// it returns tells whether the blob was deleted since (what was rewritten must then
// be deleted again); the other one must be called at the end.
func (e *Engine) BeginHeal(b twofold.BlobID) (deleted func() bool, end func()) {
	l := &e.live
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.healing[b]
	if h == nil {
		h = &healMark{deleted: l.deleting[b] > 0}
		l.healing[b] = h
	}
	h.count++
	deleted = func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return h.deleted
	}
	end = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.count--; h.count == 0 {
			delete(l.healing, b)
		}
	}
	return deleted, end
}
