package node

import (
	"context"
	"strconv"
	"time"

	"twofold"
	"twofold/engine/drive"
)

// A pool is added by giving its drives to all nodes, one after the other: its empty
// directories become drives as their nodes are started (mayReplace), and the store has
// the pool when all of them are there.

// poolsEvery is how often it is looked whether they are.
const poolsEvery = 2 * time.Second

// addPools makes pools part of the store, until it has all that the command line gives.
func (l *Leading) addPools() {
	n := l.n
	for {
		known, given := int(l.pools.Load()), len(n.opts.Layout.Pools)
		if known >= given {
			return
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(poolsEvery):
		}
		if !n.poolIsThere(known) {
			continue
		}
		ctx, cancel := context.WithTimeout(l.ctx, time.Minute)
		err := l.volume.SetConfig(ctx, poolsKey, []byte(strconv.Itoa(known+1)))
		cancel()
		if err != nil {
			n.log.Warn("a pool is not added yet", "pool", known+1, "err", err)
			continue
		}
		n.log.Info("a pool was added to the store", "pool", known+1, "drives", n.opts.Layout.Pools[known].Arg)
		l.pools.Store(int32(known + 1))
	}
}

// poolIsThere reports whether all drives of a pool can be used.
func (n *Node) poolIsThere(pool int) bool {
	for s := range n.opts.Layout.Pools[pool].Sets() {
		for _, slot := range n.slots[twofold.SetID{Pool: uint16(pool), Set: uint16(s)}] {
			if d := slot.Drive(); d.ID().IsZero() || d.State() == drive.Offline {
				return false
			}
		}
	}
	return true
}
