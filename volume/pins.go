package volume

import (
	"sync"

	"twofold"
	"twofold/metadata"
)

// pins keeps blobs from being collected under a reader.
//
// A reader enters before it takes its snapshot, pins the blobs that it found there,
// and leaves. The collector takes a stamp after it has seen a blob in the trash: a
// reader that enters later can't find the blob any more. So a blob may go when
// everybody who entered before the stamp has left, and nobody has it pinned.
type pins struct {
	mu    sync.Mutex
	clock uint64
	in    map[uint64]struct{} // clocks of readers that have entered and not left
	blobs map[twofold.BlobID]int
}

func newPins() *pins {
	return &pins{in: map[uint64]struct{}{}, blobs: map[twofold.BlobID]int{}}
}

// enter starts a snapshot; leave ends it.
func (p *pins) enter() (leave func()) {
	p.mu.Lock()
	p.clock++
	t := p.clock
	p.in[t] = struct{}{}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		delete(p.in, t)
		p.mu.Unlock()
	}
}

// pin keeps the blobs of the extents until unpin. Called between enter and leave.
func (p *pins) pin(exts []metadata.Extent) (unpin func()) {
	ids := make([]twofold.BlobID, 0, len(exts))
	for i := range exts {
		if b := exts[i].Blob; b != nil {
			ids = append(ids, b.ID)
		}
	}
	if len(ids) == 0 {
		return func() {}
	}
	p.mu.Lock()
	for _, id := range ids {
		p.blobs[id]++
	}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		for _, id := range ids {
			if p.blobs[id]--; p.blobs[id] == 0 {
				delete(p.blobs, id)
			}
		}
		p.mu.Unlock()
	}
}

// stamp is taken by the collector after it has seen blobs in the trash.
func (p *pins) stamp() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	return p.clock
}

// free reports whether nobody can be reading a blob that was in the trash at stamp.
func (p *pins) free(stamp uint64, b twofold.BlobID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blobs[b] > 0 {
		return false
	}
	for t := range p.in {
		if t < stamp {
			return false
		}
	}
	return true
}

// opens counts open files of mounts per inode, over all sessions: an unlinked
// inode that is open is not freed.
type opens struct {
	mu    sync.Mutex
	count map[twofold.Ino]int
	dying map[twofold.Ino]struct{} // being freed: can't be opened any more
}

func newOpens() *opens {
	return &opens{count: map[twofold.Ino]int{}, dying: map[twofold.Ino]struct{}{}}
}

// add counts n more opens; false if the inode is being freed.
func (o *opens) add(ino twofold.Ino, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, bad := o.dying[ino]; bad {
		return false
	}
	o.count[ino] += n
	return true
}

// drop takes n opens back, and reports whether none is left.
func (o *opens) drop(ino twofold.Ino, n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[ino] -= n; o.count[ino] > 0 {
		return false
	}
	delete(o.count, ino)
	return true
}

// has reports whether anybody has the inode open.
func (o *opens) has(ino twofold.Ino) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.count[ino] > 0
}

// condemn marks the inode as being freed, if nobody has it open.
func (o *opens) condemn(ino twofold.Ino) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[ino] > 0 {
		return false
	}
	o.dying[ino] = struct{}{}
	return true
}

// buried ends condemn: the inode is gone, or was not freed after all.
func (o *opens) buried(ino twofold.Ino) {
	o.mu.Lock()
	delete(o.dying, ino)
	o.mu.Unlock()
}
