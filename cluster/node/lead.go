package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/engine/repair"
	"twofold/volume"
)

// A node's life has two parts. Its drives, what watches them, and the metadata
// replicas on them are open for as long as the process lives. What is on top of them
// exists where the store is led, and nowhere else: the engine over all drives, the
// volume with its leases and locks, and what repairs and collects. A node that serves
// a store alone leads once and for ever.

// Leading is the second part: an open store. Safe for concurrent use.
type Leading struct {
	n       *Node
	engine  *engine.Engine
	volume  *volume.Volume
	healer  *repair.Healer
	orphans chan struct{} // asks for a walk for garbage
	pools   atomic.Int32  // that the store is known to have
	running

	// Of a store over several nodes:
	term  uint64 // of the group; of no other one this is the store
	began time.Time
	far   *far
}

// running is what ends when its owner closes.
type running struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newRunning() running {
	ctx, cancel := context.WithCancel(context.Background())
	return running{ctx: ctx, cancel: cancel}
}

// stop ends it and waits.
func (r *running) stop() {
	r.cancel()
	r.wg.Wait()
}

// leads is which Leading there is, for those who have events for it. Part of Node.
type leads struct{ cur atomic.Pointer[Leading] }

// lead opens the store on top of drives and metadata. Part of it that was opened is
// closed again when it fails.
func (n *Node) lead(ctx context.Context) error {
	l, err := n.leadIn(ctx, 0, false)
	if err == nil {
		n.leads.cur.Store(l)
	}
	return err
}

// leadIn is lead in a term of the group. found: the store is new.
func (n *Node) leadIn(ctx context.Context, term uint64, found bool) (*Leading, error) {
	l := &Leading{n: n, orphans: make(chan struct{}, 1), term: term, began: time.Now(), running: newRunning()}
	if err := l.open(ctx, found); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		if n.several() {
			l.abandon()
		} else {
			_ = l.close(closing) // the first error says more
		}
		return nil, err
	}
	return l, nil
}

// closeLimit is how long what was opened in vain may take to close.
const closeLimit = 10 * time.Second

func (l *Leading) open(ctx context.Context, found bool) (err error) {
	n := l.n
	if n.several() {
		if err := l.openFar(ctx); err != nil {
			return err
		}
	}
	if found || n.several() && l.fewReplicas(ctx) {
		l.foundReplicas(ctx)
	}
	if l.engine, err = n.openEngine(); err != nil {
		return err
	}
	var blobs volume.Blobs = l.engine
	var place volume.Placer = &placer{cluster: n.cluster, layout: n.opts.Layout, slots: n.slots, engine: l.engine}
	if n.several() {
		p := patient{n.lately}
		blobs, place = patientBlobs{blobs, p}, patientPlacer{place, p}
	}
	l.volume, err = volume.Open(ctx, volume.Options{
		Meta: n.group, Blobs: blobs, Node: self(), Logger: n.log, Placer: place,
		LeaseTerm: n.leaseTerm(), SessionTTL: n.opts.SessionTTL, Leads: l.leads(), LedSince: l.began,
	})
	if err != nil {
		return err
	}
	if err := l.checkPools(ctx); err != nil {
		return err
	}
	l.healer, err = repair.New(repair.Options{Engine: l.engine, Wanted: l.volume.Wanted, Logger: n.log, Cycle: n.opts.ScrubCycle})
	if err != nil {
		return err
	}
	l.wg.Go(func() { l.healer.Run(l.ctx) })
	l.wg.Go(l.collectOrphans)
	if n.several() {
		l.wg.Go(l.keepReplicas)
		l.wg.Go(l.addPools)
	}
	return nil
}

// Volume is the store as the views see it.
func (l *Leading) Volume() *volume.Volume { return l.volume }

// abandon ends it at once, because another node leads: nothing is committed any more, and
// what is under way fails.
func (l *Leading) abandon() {
	l.cancel()
	if l.volume != nil {
		l.volume.Abandon()
	}
	l.wg.Wait()
	if l.far != nil {
		l.far.close()
	}
	if l.engine != nil {
		l.engine.Close()
	}
}

// leads reports whether this node leads in the term for which the store was opened, for
// certain and now. Nil: it always does.
func (l *Leading) leads() func() bool {
	if !l.n.several() {
		return nil
	}
	return func() bool { return l.n.leadsIn(l.term) }
}

// close ends it in order: requests must have ended.
func (l *Leading) close(ctx context.Context) error {
	l.n.leads.cur.CompareAndSwap(l, nil)
	l.stop()
	var first error
	if l.volume != nil {
		first = l.volume.Close(ctx)
	}
	if l.far != nil {
		l.far.close()
	}
	if l.engine != nil {
		if err := l.engine.Close(); first == nil {
			first = err
		}
	}
	return first
}

// openEngine opens an engine over the slots.
func (n *Node) openEngine() (*engine.Engine, error) {
	o := engine.Options{Cluster: n.cluster, Logger: n.log}
	for i, pool := range n.opts.Layout.Pools {
		for s := range pool.Sets() {
			id := twofold.SetID{Pool: uint16(i), Set: uint16(s)}
			o.Sets = append(o.Sets, engine.SetConfig{ID: id, Slots: n.slots[id], Parity: min(n.opts.Layout.Standard, pool.SetSize/2)})
		}
	}
	return engine.Open(o)
}

// leaseTermAmong is volume.Options.LeaseTerm of a store over several nodes: for so long,
// after another node has begun to lead, mounts that are not back keep others waiting.
const leaseTermAmong = 2 * time.Second

func (n *Node) leaseTerm() time.Duration {
	if n.opts.LeaseTerm == 0 && n.several() {
		return leaseTermAmong
	}
	return n.opts.LeaseTerm
}
