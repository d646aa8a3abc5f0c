package fsm

import (
	"cmp"
	"slices"

	"twofold"
	"twofold/metadata"
)

// name is an entry of a directory.
type name struct {
	dir  twofold.Ino
	comp string
}

// note remembers an entry that the command under way makes, changes or removes.
func (a *applier) note(dir *metadata.Inode, comp string) {
	if a.cmd.Guard != nil {
		a.named = append(a.named, name{dir.Ino, comp})
	}
}

// wasThere tells whether an inode was there before the command under way: numbers ascend.
func (a *applier) wasThere(ino twofold.Ino) bool { return a.made == 0 || ino < a.made }

// unguarded lists what the command under way changed of what was there before and is
// not in the guard; nil where nothing is. It is a function of the state and the
// command, and in order, so that every replica has the same.
//
// An inode counts as changed when it was touched, also if its attributes turned out the
// same. What a command changes beside inodes, entries and extents (of touched inodes)
// nobody can see in the file system.
func (a *applier) unguarded(guard []metadata.Target) []metadata.Target {
	missing := map[twofold.Ino][]string{}
	for ino, h := range a.inodes {
		if h.dirty && a.wasThere(ino) && !slices.ContainsFunc(guard, func(t metadata.Target) bool { return t.Ino == ino }) {
			missing[ino] = nil
		}
	}
	for _, n := range a.named {
		covers := func(t metadata.Target) bool {
			return t.Ino == n.dir && (len(t.Names) == 0 || slices.Contains(t.Names, n.comp))
		}
		if a.wasThere(n.dir) && !slices.ContainsFunc(guard, covers) && !slices.Contains(missing[n.dir], n.comp) {
			missing[n.dir] = append(missing[n.dir], n.comp)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	out := make([]metadata.Target, 0, len(missing))
	for ino, names := range missing {
		slices.Sort(names)
		out = append(out, metadata.Target{Ino: ino, Names: names})
	}
	slices.SortFunc(out, func(x, y metadata.Target) int { return cmp.Compare(x.Ino, y.Ino) })
	return out
}
