package volume

import (
	"context"
	"strings"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/lease"
)

// Whatever mounts may cache is taken back from them before a command changes it. What a
// command will change is predicted from a snapshot; the command carries the prediction
// as its guard, and does nothing where the tree has become another one: then its result
// says what is missing, and it is sent again.

// maxRounds is how often a command is sent again with a better guard. Behind that, all leases
// in its bucket are taken back, and it goes without one.
const maxRounds = 6

// change is a command on its way, with those who cache what it changes told, and those who
// decide about it kept away.
type change struct {
	v     *Volume
	under *lease.Change
	away  exclusion
	guard []metadata.Target
}

// beginChange begins a change that a session asks for (nil: none). done must be called with its
// outcome.
func (v *Volume) beginChange(ctx context.Context, actor *Session) (*change, error) {
	var id twofold.SessionID
	if actor != nil {
		id = actor.id
	}
	c, err := v.leases.Change(ctx, id)
	if err != nil {
		return nil, err
	}
	return &change{v: v, under: c, away: exclusion{v: v, by: actor}, guard: []metadata.Target{}}, nil
}

// add has everybody told who caches the targets; the actor only where told says so. Before
// that it keeps away who decides about them: what is looked up behind it is what they
// had.
func (c *change) add(ctx context.Context, told bool, targets ...metadata.Target) error {
	if err := c.exclude(ctx, targets...); err != nil {
		return err
	}
	return c.tell(ctx, told, targets...)
}

// exclude is add with nobody told.
func (c *change) exclude(ctx context.Context, targets ...metadata.Target) error {
	if !c.under.Excludes() {
		return nil
	}
	return c.away.targets(ctx, targets)
}

// tell is add for targets of which all are kept away.
func (c *change) tell(ctx context.Context, told bool, targets ...metadata.Target) error {
	ts := make([]lease.Target, len(targets))
	for i, t := range targets {
		ts[i] = lease.Target{Ino: t.Ino, Names: t.Names}
	}
	c.guard = append(c.guard, targets...)
	return c.under.Add(ctx, told, ts...)
}

// send sends a command until its guard holds. do is given the guard; nil: the command may
// change anything in the bucket that bucket tells.
func (c *change) send(ctx context.Context, bucket func() (twofold.BucketID, error), do func(guard []metadata.Target) (*metadata.Result, error)) (*metadata.Result, error) {
	for range maxRounds {
		res, err := do(c.guard)
		if res == nil || res.Unguarded == nil {
			return res, err
		}
		if err := c.add(ctx, true, res.Unguarded...); err != nil {
			return nil, err
		}
	}
	b, err := bucket()
	if err != nil {
		return nil, err
	}
	if err := c.under.AddBucket(ctx, b); err != nil {
		return nil, err
	}
	return do(nil)
}

// done ends the change.
func (c *change) done(err error) {
	c.v.whenKnown(err, func() {
		c.under.End()
		c.away.end()
	})
}

// whenKnown calls end: at once where err says what became of a command, else when the
// command can't take effect any more. A command of a later time that has been
// committed says so: by then the earlier one is in front of it in the log, or in none.
func (v *Volume) whenKnown(err error, end func()) {
	if !errs.Is(err, errs.UnknownOutcome) {
		end()
		return
	}
	v.background(func() {
		for {
			if v.nop(v.ctx) == nil {
				end()
				return
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-v.ctx.Done():
				return // nobody is granted anything any more
			}
		}
	})
}

// nop commits a command that changes nothing.
func (v *Volume) nop(ctx context.Context) error {
	seq := v.seqs.next()
	defer v.seqs.done(seq)
	_, err := v.Meta.Apply(ctx, &metadata.Command{
		Op: metadata.OpNop, Session: v.writer, Seq: seq, Acked: v.seqs.acked(), Now: v.now(), Body: metadata.Nop{},
	})
	return err
}

// commitIn commits a command that changes what predict says, in a bucket. While no mount
// caches anything of the bucket, or decides about any of its directories, it is not asked.
func (v *Volume) commitIn(ctx context.Context, b twofold.BucketID, op metadata.Op, body any, predict prediction) (res *metadata.Result, err error) {
	end, alone, err := v.leases.Unguarded(ctx, b)
	if err != nil {
		return nil, err
	}
	if alone {
		defer func() { v.whenKnown(err, end) }()
		return v.commit(ctx, op, body)
	}
	c, err := v.beginChange(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { c.done(err) }()
	if err := c.predicted(ctx, predict); err != nil {
		return nil, err
	}
	return c.send(ctx, func() (twofold.BucketID, error) { return b, nil }, func(guard []metadata.Target) (*metadata.Result, error) {
		return v.commitGuarded(ctx, op, body, guard)
	})
}

// prediction tells what a command will change, and in which directory it will find nothing, if
// it does (0).
type prediction func(metadata.View) (targets []metadata.Target, missed twofold.Ino, err error)

// predicted is add for what a command is predicted to change, once nobody decides about that
// any more.
func (c *change) predicted(ctx context.Context, predict prediction) error {
	for {
		var targets []metadata.Target
		var dirs looks
		if err := c.v.Meta.View(ctx, func(w metadata.View) error {
			all, missed, err := predict(w)
			if targets = all; err != nil || !c.under.Excludes() {
				return err
			}
			dirs.at(w)
			dirs.seen[missed] = struct{}{}
			for _, t := range targets {
				if len(t.Names) > 0 {
					dirs.seen[t.Ino] = struct{}{}
				} else if _, err := w.Inode(t.Ino); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		more, err := c.away.add(ctx, dirs.dirs()...)
		if err != nil {
			return err
		}
		if !more {
			return c.tell(ctx, true, targets...)
		}
	}
}

// atKey predicts what a command changes that makes, replaces or removes what a key
// names.
func atKey(id twofold.BucketID, name twofold.BucketName, key twofold.Key, removed bool) prediction {
	return func(w metadata.View) ([]metadata.Target, twofold.Ino, error) {
		b, err := w.Bucket(name)
		if err != nil || b.ID != id {
			return nil, 0, nil // the command will say so
		}
		dir, err := w.Inode(b.Root)
		if err != nil {
			return nil, 0, nil
		}
		way := []*metadata.Inode{dir}
		rest := string(key)
		for {
			comp, below, more := strings.Cut(rest, "/")
			if !more {
				break
			}
			next, err := w.Lookup(dir.Ino, metadata.Name{Comp: comp})
			if err != nil || next.Type != metadata.TypeDir {
				if removed {
					return nil, dir.Ino, nil
				}
				return []metadata.Target{{Ino: dir.Ino, Names: []string{comp}}}, 0, nil
			}
			dir, rest = next, below
			way = append(way, dir)
		}
		return atLeaf(w, way, rest, removed), 0, nil
	}
}

// atLeaf is atKey at the end of a key's way.
func atLeaf(w metadata.View, way []*metadata.Inode, base string, removed bool) []metadata.Target {
	dir := way[len(way)-1]
	targets := []metadata.Target{{Ino: dir.Ino}}
	gone := base == "" && dir.Children == 0 // of a removed "dir/"
	if base != "" {
		targets[0].Names = []string{base}
		old, err := w.Lookup(dir.Ino, metadata.Name{Comp: base})
		if err == nil && old.Type == metadata.TypeDir {
			old, err = w.Lookup(dir.Ino, metadata.Name{Comp: base, File: true})
		}
		if err == nil {
			targets = append(targets, metadata.Target{Ino: old.Ino})
			gone = !dir.Explicit && dir.Children == 1
		}
	}
	if !removed || !gone {
		return targets
	}
	// Implied directories that become empty go as well.
	for i := len(way) - 1; i > 0; i-- {
		targets = append(targets, metadata.Target{Ino: way[i-1].Ino, Names: []string{way[i].Name}})
		if way[i-1].Explicit || way[i-1].Children > 1 {
			break
		}
	}
	return targets
}
