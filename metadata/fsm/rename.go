package fsm

import (
	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Flags of renameat2(2).
const (
	renameNoReplace = 1
	renameExchange  = 2
)

// place in the namespace: a name in a directory, and what is there.
type place struct {
	dir  *metadata.Inode
	name metadata.Name
	at   *metadata.Inode // nil: nothing
}

func (a *applier) rename(c *metadata.Rename) (*metadata.Result, error) {
	if c.Flags != 0 && c.Flags != renameNoReplace && c.Flags != renameExchange {
		return nil, refuse(errs.NotSupportedRename)
	}
	from, to, err := a.ends(c)
	if err != nil {
		return nil, err
	}
	switch {
	case from.at == nil:
		return nil, refuse(errs.NotFound)
	case from.dir.Bucket != to.dir.Bucket:
		return nil, refuse(errs.CrossBucket)
	case c.Flags == renameNoReplace && to.at != nil:
		return nil, refuse(errs.Exists)
	case c.Flags == renameExchange && to.at == nil:
		return nil, refuse(errs.NotFound)
	case from.at == to.at:
		return &metadata.Result{Inode: from.at, Parent: to.dir}, nil
	}
	if c.Flags == renameExchange {
		err = a.exchange(from, to)
	} else {
		err = a.move(from, to)
	}
	if err != nil {
		return nil, err
	}
	a.explicit(from.dir)
	a.explicit(to.dir)
	return &metadata.Result{Inode: from.at, Parent: to.dir}, nil
}

func (a *applier) ends(c *metadata.Rename) (from, to place, err error) {
	from.name, to.name = c.OldName, c.NewName
	if from.dir, err = a.directory(c.OldParent); err != nil {
		return from, to, err
	}
	if from.at, err = a.existing(from.dir, from.name); err != nil {
		return from, to, err
	}
	if to.dir, err = a.room(c.NewParent); err != nil {
		return from, to, err
	}
	to.at, err = a.existing(to.dir, to.name)
	return from, to, err
}

// move is rename without flags, over what is at the new name.
func (a *applier) move(from, to place) error {
	isDir := from.at.Type == metadata.TypeDir
	if err := a.checkName(to.dir, to.name, isDir); err != nil {
		return err
	}
	if isDir {
		if err := a.notBelow(to.dir, from.at); err != nil {
			return err
		}
	}
	if to.at != nil {
		switch {
		case isDir && to.at.Type != metadata.TypeDir:
			return refuse(errs.NotDir)
		case !isDir && to.at.Type == metadata.TypeDir:
			return refuse(errs.IsDir)
		case to.at.Children > 0:
			return refuse(errs.NotEmpty)
		}
		if err := a.release(to.dir, to.name.Comp, to.at); err != nil {
			return err
		}
	}
	return a.moveEntry(from, to)
}

// moveEntry moves a name to where none is.
func (a *applier) moveEntry(from, to place) error {
	if err := a.unname(from.dir, from.name.Comp, from.at); err != nil {
		return err
	}
	a.name(to.dir, to.name.Comp, from.at)
	a.moved(from.at)
	return nil
}

func (a *applier) moved(i *metadata.Inode) {
	i.Ctime = a.cmd.Now
	a.explicit(i)
}

// exchange swaps two names, which may be of different types.
func (a *applier) exchange(from, to place) error {
	for _, p := range [2][2]*metadata.Inode{{to.dir, from.at}, {from.dir, to.at}} {
		if p[1].Type != metadata.TypeDir {
			continue
		}
		if err := a.notBelow(p[0], p[1]); err != nil {
			return err
		}
	}
	if err := a.unname(from.dir, from.name.Comp, from.at); err != nil {
		return err
	}
	if err := a.unname(to.dir, to.name.Comp, to.at); err != nil {
		return err
	}
	for _, p := range []place{{to.dir, to.name, from.at}, {from.dir, from.name, to.at}} {
		// The slot can be taken by the other one of an object and a directory of
		// one name, which the exchange would then overwrite.
		isDir := p.at.Type == metadata.TypeDir
		_, taken, err := a.entry(p.dir.Ino, p.name.Comp, isDir)
		if err != nil {
			return err
		}
		if taken || p.name.Comp == "" && !isDir {
			return refuse(errs.Exists)
		}
		a.name(p.dir, p.name.Comp, p.at)
		a.moved(p.at)
	}
	return nil
}

// notBelow refuses to move a directory to where it would be its own ancestor.
func (a *applier) notBelow(dest, moving *metadata.Inode) error {
	ino := dest.Ino
	for range maxDepth {
		if ino == moving.Ino {
			return refuse(errs.Loop)
		}
		i := a.inodes[ino].inode // a batch may have made or moved it
		if i == nil {
			var err error
			if i, err = a.mustInode(ino); err != nil {
				return err
			}
		}
		if i.Parent == twofold.RootIno {
			return nil
		}
		ino = i.Parent
	}
	return refusef(errs.NameTooLong, "directory %d is more than %d levels deep", dest.Ino, maxDepth)
}
