package node

import (
	"context"
	"math/rand/v2"

	"twofold"
	"twofold/engine"
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
	engine  *engine.Engine
}

var _ volume.Placer = (*placer)(nil)

// Place implements volume.Placer: the pool by free space, the set by the name's hash
// or, where that set can't be written, the next one that can.
func (p *placer) Place(name, class string) (twofold.SetID, int, error) {
	parity := p.layout.Parity(class)
	free := p.free()
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
func (p *placer) Space(ctx context.Context) (total, free uint64, err error) {
	u := p.engine.Usage(ctx)
	return u.Total, u.Free, nil
}

// Room implements volume.Placer.
func (p *placer) Room(ctx context.Context) (uint64, error) { return p.engine.Room(ctx), nil }

// free is what each pool can still take, in bytes of content. The engine asks the
// drives now and then, and remembers.
func (p *placer) free() []uint64 {
	out := make([]uint64, len(p.layout.Pools))
	for _, u := range p.engine.Usage(context.Background()).Pools {
		out[u.Pool] = u.Free
	}
	return out
}
