package drive

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// look takes the identity of what is at the drive's path now.
func (d *Local) look() (identity, error) {
	var id identity
	root, err := d.fs.Stat(d.opt.Path)
	if err != nil {
		return id, err
	}
	mount, err := MountPoint(d.fs, d.opt.Path)
	if err != nil {
		return id, err
	}
	f, err := d.fs.Stat(path.Join(d.opt.Path, FormatName))
	if err != nil {
		return id, err
	}
	s, err := d.fs.StatFS(d.opt.Path)
	if err != nil {
		return id, err
	}
	return identity{dev: root.Dev, fsid: s.ID, mount: mount, format: f}, nil
}

// still reports, as an error, that the path is not this drive any more: then what
// was read, or fsynced, or not found there says nothing about the drive. It costs
// one stat where nothing changed.
func (d *Local) still(op string) error {
	if d.stillKnown() {
		return nil
	}
	why, err := d.recheck()
	if err != nil {
		return d.fail(op, err)
	}
	if why != "" {
		d.lose(why)
		return errs.Newf(op, errs.Unavailable, "%s is not the drive any more: %s", d.opt.Path, why)
	}
	return nil
}

// stillKnown is the quick look.
func (d *Local) stillKnown() bool {
	id := d.identity.Load()
	f, err := d.fs.Stat(path.Join(d.opt.Path, FormatName))
	return err == nil && f == id.format && f.Dev == id.dev
}

// recheck looks closely. why tells that it is not the drive any more; err, that
// nobody can tell.
func (d *Local) recheck() (why string, err error) {
	f, err := ReadFormat(d.fs, d.opt.Path)
	switch errs.KindOf(err) {
	case errs.NotFound, errs.Invalid, errs.Corrupt, errs.Unsupported:
		if err != nil {
			return err.Error(), nil
		}
	}
	if err != nil {
		return "", err
	}
	if f.Drive != d.format.Drive || f.Cluster != d.format.Cluster {
		return "drive " + f.Drive.String() + " is there", nil
	}
	now, err := d.look()
	if errors.Is(err, fs.ErrNotExist) {
		return err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	was := d.identity.Load()
	if now.dev != was.dev || now.fsid != was.fsid || now.mount != was.mount {
		return "its directory is on another file system", nil
	}
	d.identity.Store(&now) // somebody touched the format file, and it is the same one
	return "", nil
}

// lose takes the drive offline until the monitor finds it again.
func (d *Local) lose(why string) {
	if d.health.setLost(why) {
		d.release()
	}
}

// readHealing tells whether the drive was left while it was being refilled.
func (d *Local) readHealing() (bool, error) {
	_, err := d.fs.Stat(path.Join(d.opt.Path, healingName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// SetHealing marks the drive as one that is being refilled, or as full of all it
// should have. The mark is durable when it returns: a restart finds it.
func (d *Local) SetHealing(ctx context.Context, healing bool) error {
	const op = "drive.SetHealing"
	return d.guard.run(ctx, op, 3*d.opt.Deadline, func() error { return d.fail(op, d.markHealing(healing)) }, nil)
}

func (d *Local) markHealing(healing bool) error {
	name := path.Join(d.opt.Path, healingName)
	if healing { // also where the mark can't be made durable: the safe side
		d.health.change("refill", func() { d.health.healing = true })
	}
	var err error
	if healing {
		err = vfs.WriteFile(d.fs, name, nil)
	} else if err = d.fs.Remove(name); err == nil {
		err = d.fs.SyncDir(d.opt.Path)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = d.still("drive.SetHealing")
	}
	if err != nil {
		return err
	}
	d.health.change("refill", func() { d.health.healing = healing })
	return nil
}

// Healing reports whether the drive is being refilled, also while another state
// hides it.
func (d *Local) Healing() bool { return d.health.isHealing() }

// reserve is the free space, in bytes, that shards leave alone.
func (d *Local) reserve(total uint64) uint64 {
	switch r := d.opt.Reserve; {
	case r < 0:
		return 0
	case r > 0:
		return uint64(r)
	}
	return min(max(total/100, 256<<20), total/10)
}

// space tells whether n more bytes may be written: errs.NoSpace when the reserve
// would be touched. It keeps the Full state, which ends a little above the reserve.
func (d *Local) space(n int) (vfs.FSInfo, error) {
	s, err := d.fs.StatFS(d.opt.Path)
	if err != nil {
		return s, err
	}
	r := d.reserve(s.Total)
	short := s.Free < r+uint64(n)
	if short {
		d.health.setFull(true)
	} else if s.Free > r+r/8+uint64(n) {
		d.health.setFull(false)
	}
	if short {
		return s, errs.Newf("drive.space", errs.NoSpace, "%s has %d MiB left, and %d MiB are kept in reserve",
			d.opt.Path, s.Free>>20, r>>20)
	}
	return s, nil
}
