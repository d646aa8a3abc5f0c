package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// A mount that has the write lease of a directory decides there without telling (volume/lease,
// dirs.go). So whoever changes something keeps these leases away, from before the snapshot
// by which he knows what he changes until the change is committed: of the directories
// that he changes, of those in which he found no name, and of the homes of inodes. A
// directory in which he only found another one is not among them: what moves that one
// has its lease.

// exclusion keeps the write leases of directories away. The zero value, with v set, does of
// none. For one goroutine at a time.
type exclusion struct {
	v    *Volume
	by   *Session // its own leases stay where they are; nil: nobody's
	ends map[twofold.Ino]func()
}

// add adds directories. more reports whether any was not there yet: then a snapshot of before
// may be out of date, for their holders have committed what they had. errs.Unwritten where
// one can't; those that were added stay.
func (x *exclusion) add(ctx context.Context, dirs ...twofold.Ino) (more bool, err error) {
	for _, dir := range dirs {
		if _, ok := x.ends[dir]; ok || dir == 0 || dir == twofold.RootIno || dir&levelBit != 0 {
			continue
		}
		var end func()
		if x.by != nil {
			end, err = x.v.leases.Use(ctx, x.by, dir, 0)
		} else {
			end, err = x.v.leases.Exclude(ctx, dir)
		}
		if err != nil {
			return more, err
		}
		if x.ends == nil {
			x.ends = map[twofold.Ino]func(){}
		}
		x.ends[dir] = end
		more = true
	}
	return more, nil
}

func (x *exclusion) has(dir twofold.Ino) bool {
	_, ok := x.ends[dir]
	return ok
}

// end lets the leases be granted again.
func (x *exclusion) end() {
	for _, end := range x.ends {
		end()
	}
	x.ends = nil
}

// look runs fn on snapshots until nobody has the lease of a directory that fn looked at, nor can
// get one before end.
func (x *exclusion) look(ctx context.Context, fn func(metadata.View) error) error {
	for {
		var looked looks
		err := x.v.Meta.View(ctx, func(w metadata.View) error {
			looked.at(w)
			return fn(w)
		})
		more, failed := x.add(ctx, looked.dirs()...)
		if failed != nil {
			return failed
		}
		if !more {
			return err
		}
	}
}

// targets adds what a change of targets has to keep away.
func (x *exclusion) targets(ctx context.Context, targets []metadata.Target) error {
	var inos []twofold.Ino // of which only a snapshot tells what they are
	for _, t := range targets {
		switch {
		case len(t.Names) == 0:
			if !x.has(t.Ino) && t.Ino != twofold.RootIno {
				inos = append(inos, t.Ino)
			}
		default:
			if _, err := x.add(ctx, t.Ino); err != nil {
				return err
			}
		}
	}
	if len(inos) == 0 {
		return nil
	}
	return x.look(ctx, func(w metadata.View) error {
		for _, ino := range inos {
			if _, err := w.Inode(ino); err != nil && !errs.Is(err, errs.Stale) { // which the command will say
				return err
			}
		}
		return nil
	})
}

// looks are the directories that were looked at in a snapshot.
type looks struct{ seen map[twofold.Ino]struct{} }

// at has the snapshot tell.
func (l *looks) at(w metadata.View) {
	l.seen = map[twofold.Ino]struct{}{}
	w.Looked(func(dir twofold.Ino) { l.seen[dir] = struct{}{} })
}

func (l *looks) dirs() []twofold.Ino {
	all := make([]twofold.Ino, 0, len(l.seen))
	for dir := range l.seen {
		all = append(all, dir)
	}
	return all
}
