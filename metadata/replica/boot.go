package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// boot starts the replicas that may be started, and has the others made again.
func (g *Group) boot(ctx context.Context) error {
	found, fresh := g.survey()
	if g.opts.Bootstrap && !begun(found) {
		// A new group, or one that was never finished: nothing was acknowledged.
		for _, s := range found {
			if err := os.RemoveAll(s.dir.g0()); err != nil {
				return errs.E("replica.Open", errs.Other, err)
			}
			fresh = append(fresh, s.dir)
		}
		return g.begin(ctx, fresh)
	}
	if g.net.wire != nil {
		return g.bootShared(found, fresh)
	}
	sound, err := g.assess(found)
	if err != nil {
		return err
	}
	fresh = append(fresh, sound.redo...)
	if sound.quorum {
		err = g.startAll(sound.nodes)
	} else {
		err = g.force(sound.nodes, sound.histories)
	}
	if err != nil {
		return err
	}
	g.elect(g.running())
	g.background.Go(g.keep)
	if _, err := g.awaitLeader(ctx); err != nil {
		return err
	}
	for _, d := range fresh {
		g.joinSoon(d, true)
	}
	return nil
}

// begun reports whether the group ever had a member.
func begun(found []surveyed) bool {
	for _, s := range found {
		if s.ident.Standing == member {
			return true
		}
	}
	return false
}

// surveyed is a drive with a replica's identity on it.
type surveyed struct {
	dir   Dir
	ident identity
}

// survey looks what is on the drives. Those that can't be read are left out: they
// are lost.
func (g *Group) survey() (found []surveyed, fresh []Dir) {
	type answer struct {
		id  *identity
		err error
	}
	answers := make([]answer, len(g.opts.Dirs))
	var wg sync.WaitGroup
	for i, d := range g.opts.Dirs {
		wg.Go(func() {
			var id *identity
			err := guard(startLimit, func() error {
				if _, err := os.Stat(d.Path); err != nil {
					return err
				}
				var err error
				id, err = readIdentity(d.g0())
				return err
			})
			answers[i] = answer{id, err}
		})
	}
	wg.Wait()
	for i, d := range g.opts.Dirs {
		switch a := answers[i]; {
		case a.err != nil:
			g.giveUp(d, a.err)
		case a.id == nil:
			fresh = append(fresh, d)
		case a.id.Drive != d.Drive:
			g.giveUp(d, fmt.Errorf("it holds the metadata replica of drive %s", a.id.Drive))
		default:
			found = append(found, surveyed{d, *a.id})
		}
	}
	return found, fresh
}

// giveUp notes a drive that can't take part.
func (g *Group) giveUp(d Dir, err error) {
	g.log.Error("a metadata replica is missing", "drive", d.Drive, "path", d.Path, "err", err)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost[d.Drive] = err
}

// assessment is which replicas count.
type assessment struct {
	nodes     []*node // open, not started
	histories []history
	redo      []Dir // those whose log counts for nothing
	quorum    bool  // nodes have a majority of the votes
}

// assess opens the replicas that count: members of the highest epoch. It decides
// whether they are a majority, or enough to go on from all the same.
func (g *Group) assess(found []surveyed) (a assessment, err error) {
	var epoch uint64
	for _, s := range found {
		epoch = max(epoch, s.ident.Epoch)
	}
	var candidates []surveyed
	for _, s := range found {
		if s.ident.Epoch == epoch && s.ident.Standing == member {
			candidates = append(candidates, s)
			continue
		}
		why := "a metadata replica was away while the others went on; it is made again"
		if s.ident.Epoch == epoch {
			why = "a metadata replica had not finished joining; it is made again"
		}
		g.log.Warn(why,
			"drive", s.dir.Drive, "path", s.dir.Path, "epoch", s.ident.Epoch, "current", epoch)
		a.redo = append(a.redo, s.dir)
	}
	a.nodes, a.histories, candidates = g.openAll(candidates)
	for _, s := range candidates {
		a.redo = append(a.redo, s.dir)
	}
	q := tally(a.nodes, a.histories)
	if !q.majority && !q.enough {
		err = q.unavailable(g.opts.Dirs)
		for _, n := range a.nodes {
			err = errors.Join(err, n.release())
		}
		return a, err
	}
	if !q.majority {
		g.log.Error("fewer metadata replicas than a majority: going on from those that are left, which hold every commit",
			"have", len(a.nodes), "of", len(q.voters), "missing", q.missing())
	}
	a.quorum = q.majority
	return a, nil
}

// openAll opens replicas side by side. Those that do not open are lost; the damaged
// ones among them can be made again.
func (g *Group) openAll(list []surveyed) (nodes []*node, histories []history, damaged []surveyed) {
	type opened struct {
		n   *node
		h   history
		err error
	}
	out := make([]opened, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() {
			var o opened
			var read atomic.Int64
			opts := g.opts
			opts.verified = func(n int) {
				read.Add(int64(n))
				if g.opts.verified != nil {
					g.opts.verified(n)
				}
			}
			err := guardMoving(startLimit, &read, func() (err error) {
				if o.n, err = openNode(s.dir, s.ident, &opts, g.onFail); err != nil {
					return err
				}
				o.h, err = o.n.history()
				return err
			})
			out[i] = opened{o.n, o.h, err}
		})
	}
	wg.Wait()
	for i, o := range out {
		if o.err != nil {
			g.giveUp(list[i].dir, o.err)
			if errs.Is(o.err, errs.Corrupt) {
				damaged = append(damaged, list[i])
			}
			continue
		}
		nodes, histories = append(nodes, o.n), append(histories, o.h)
	}
	return nodes, histories, damaged
}

// startAll starts replicas. The keeper finds those of them that have no vote yet.
func (g *Group) startAll(nodes []*node) error {
	for _, n := range nodes {
		if err := n.start(g.net); err != nil {
			g.giveUp(n.dir, err)
			n.abandon()
			continue
		}
		g.enlist(n)
	}
	return nil
}

// begin makes a new group: the first drive alone, then the others join it. Nothing
// was acknowledged before Open returns, so a crash in between loses nothing.
func (g *Group) begin(ctx context.Context, dirs []Dir) error {
	if len(dirs) < len(g.opts.Dirs) {
		return errs.Newf("replica.Open", errs.Unavailable, "a new store needs all of its drives: %s", paths(g.opts.Dirs))
	}
	n, err := g.founder(dirs[0])
	if err != nil {
		return err
	}
	g.enlist(n)
	g.elect(g.running())
	g.background.Go(g.keep)
	for _, d := range dirs[1:] {
		if err := g.join(ctx, d, true); err != nil {
			return err
		}
	}
	return nil
}

// founder makes the first replica of a new group, the only voter. It is a member
// only when its configuration is in its log.
func (g *Group) founder(d Dir) (n *node, err error) {
	id := identity{Version: identityVersion, Drive: d.Drive, Standing: joining, Epoch: 1}
	err = guard(startLimit, func() (err error) {
		if err := wipe(d); err != nil {
			return err
		}
		if n, err = openNode(d, id, &g.opts, g.onFail); err != nil {
			return err
		}
		c := raft.Configuration{Servers: []raft.Server{serverOf(d.Drive, raft.Voter)}}
		port := newNetwork().attach(n.sid, false, 0)
		if err := raft.BootstrapCluster(n.config(), n.store, n.store, n.snaps, port, c); err != nil {
			return errors.Join(err, n.release())
		}
		return n.setIdentity(d, func(id *identity) {
			id.Standing = member
			id.Voters = append(id.Voters[:0:0], d.Drive)
		})
	})
	if err != nil {
		return nil, err
	}
	n.first = true
	return n, n.start(g.net)
}

// wipe makes a replica's directory empty. What was there is moved aside first, and
// stays until a new replica stands in its place.
func wipe(d Dir) error {
	if _, err := os.Lstat(d.g0()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	aside := fmt.Sprintf("%s.old-%d", d.g0(), time.Now().UnixNano())
	if err := os.Rename(d.g0(), aside); err != nil {
		return errs.E("replica.wipe", errs.Other, err)
	}
	return syncDir(filepath.Dir(aside))
}

// sweep removes what wipe has put aside.
func sweep(d Dir) error {
	old, err := filepath.Glob(d.g0() + ".old-*")
	for _, path := range old {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

func paths(dirs []Dir) (s string) {
	for i, d := range dirs {
		if i > 0 {
			s += ", "
		}
		s += d.Path
	}
	return s
}
