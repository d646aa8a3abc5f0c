package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"twofold"
	"twofold/volume/api"
)

// Statx is statx(2) that asks for the birth time; without that the kernel sends
// GetAttr. An inode has it since it was made; the root has none.
func (f *fsys) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	ctx := f.request(cancel, in.Pid, graceWait)
	defer ctx.end()
	a, m, err := f.kernelAttrs(ctx, twofold.Ino(in.NodeId))
	if err != nil {
		return errno(err)
	}
	out.SetTimeout(f.attrTimeout(a, m))
	f.opts.statx(a, &out.Statx)
	return fuse.OK
}

// statx is stat with the birth time.
func (o *Options) statx(a api.Attr, out *fuse.Statx) {
	var st fuse.Attr
	o.stat(a, &st)
	*out = fuse.Statx{
		Mask:    unix.STATX_BASIC_STATS,
		Blksize: st.Blksize,
		Nlink:   st.Nlink,
		Uid:     st.Uid,
		Gid:     st.Gid,
		Mode:    uint16(st.Mode),
		Ino:     st.Ino,
		Size:    st.Size,
		Blocks:  st.Blocks,
		Atime:   sxTime(a.Atime),
		Mtime:   sxTime(a.Mtime),
		Ctime:   sxTime(a.Ctime),
		// stat's 32 bits of a device number, in its two halves (new_decode_dev).
		RdevMajor: unix.Major(uint64(st.Rdev)),
		RdevMinor: unix.Minor(uint64(st.Rdev)),
	}
	if a.Btime != 0 {
		out.Mask |= unix.STATX_BTIME
		out.Btime = sxTime(a.Btime)
	}
}

func sxTime(t twofold.Time) fuse.SxTime {
	sec, nsec := split(t)
	return fuse.SxTime{Sec: sec, Nsec: nsec}
}
