package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/volume"
)

// placer decides where blobs go, from the layout and the state of the drives.
type placer struct {
	cluster twofold.ClusterID
	layout  placement.Layout
	slots   map[twofold.SetID][]*drive.Slot

	mu   sync.Mutex
	free []uint64 // per pool: bytes of content that fit
	all  []uint64
	at   time.Time // when free was measured
}

var _ volume.Placer = (*placer)(nil)

// spaceAge is how old a measurement of free space may be.
const spaceAge = 2 * time.Second

// Place implements volume.Placer: the pool by free space, the set by the name's hash
// or, where that set can't be written, the next one that can.
func (p *placer) Place(name, class string) (twofold.SetID, int, error) {
	parity := p.layout.Parity(class)
	free, _ := p.space()
	full := false
	for range free {
		pool := placement.ChoosePool(free, rand.Uint64())
		if pool < 0 {
			break
		}
		n := p.layout.Pools[pool].Sets()
		first := placement.ChooseSet(p.cluster, name, n)
		for i := range n {
			set := twofold.SetID{Pool: uint16(pool), Set: uint16((first + i) % n)}
			ok, isFull := p.canWrite(set, parity)
			if ok {
				return set, min(parity, len(p.slots[set])/2), nil
			}
			full = full || isFull
		}
		free[pool] = 0
	}
	if err := p.Writable(); err != nil {
		return twofold.SetID{}, 0, err
	}
	return twofold.SetID{}, 0, errs.Newf("node.Place", errs.NoSpace, "the drives are full")
}

// canWrite reports whether a set has the drives for a write, and whether full
// drives are why not.
func (p *placer) canWrite(set twofold.SetID, parity int) (ok, full bool) {
	slots := p.slots[set]
	up, fullDrives := 0, 0
	for _, s := range slots {
		switch s.Drive().State() {
		case drive.Online, drive.Healing, drive.Suspect:
			up++
		case drive.Full:
			fullDrives++
		}
	}
	c := placement.CodingFor(len(slots), min(parity, len(slots)/2), len(slots)-up)
	return up >= c.WriteQuorum(), fullDrives > 0 && up+fullDrives >= c.WriteQuorum()
}

// Writable implements volume.Placer.
func (p *placer) Writable() error {
	full := false
	for set := range p.slots {
		ok, isFull := p.canWrite(set, p.layout.Standard)
		if ok {
			return nil
		}
		full = full || isFull
	}
	if full {
		return errs.Newf("node.Writable", errs.NoSpace, "the drives are full")
	}
	return errs.Newf("node.Writable", errs.WriteQuorum, "too few drives are online to write safely")
}

// Space implements volume.Placer.
func (p *placer) Space(context.Context) (total, free uint64, err error) {
	f, a := p.space()
	for i := range f {
		free += f[i]
		total += a[i]
	}
	return total, free, nil
}

// space returns the free and total bytes of content of each pool: what its sets
// hold at the standard parity, a set being as large as its smallest drive.
func (p *placer) space() (free, all []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) > spaceAge {
		p.measure()
	}
	return append([]uint64(nil), p.free...), append([]uint64(nil), p.all...)
}

// measure asks the drives; p.mu is held. A drive that doesn't answer is not counted.
func (p *placer) measure() {
	p.free = make([]uint64, len(p.layout.Pools))
	p.all = make([]uint64, len(p.layout.Pools))
	p.at = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for set, slots := range p.slots {
		var minFree, minAll uint64
		seen := 0
		for _, s := range slots {
			d := s.Drive()
			if d.State() == drive.Offline {
				continue
			}
			u, err := d.Usage(ctx)
			if err != nil {
				continue
			}
			if d.State() == drive.Full {
				u.Free = 0
			}
			if seen == 0 || u.Free < minFree {
				minFree = u.Free
			}
			if seen == 0 || u.Total < minAll {
				minAll = u.Total
			}
			seen++
		}
		data := uint64(len(slots) - min(p.layout.Standard, len(slots)/2))
		p.free[set.Pool] += minFree * data
		p.all[set.Pool] += minAll * data
	}
}
