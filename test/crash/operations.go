package crash

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// operation does one thing. errUnsure: look first.
func (w *worker) operation() error {
	if w.shared != nil && w.rng.IntN(10) == 0 {
		return w.shared.operation(w)
	}
	s3ops := []func() error{
		w.opPut, w.opPut, w.opPut, w.opGet, w.opGet, w.opDelete, w.opCopy, w.opList, w.opPutDir,
	}
	if w.rng.IntN(60) == 0 {
		return w.opMultipart()
	}
	if w.mix.noMount {
		return s3ops[w.rng.IntN(len(s3ops))]()
	}
	if w.mix.blobs && w.rng.IntN(4) > 0 {
		return []func() error{w.opPut, w.opPut, w.opDelete, w.opCopy, w.opWrite, w.opUnlink}[w.rng.IntN(6)]()
	}
	all := append(s3ops,
		w.opWrite, w.opWrite, w.opWrite, w.opWrite, w.opHold, w.opHold, w.opHeld, w.opHeld, w.opRead,
		w.opRename, w.opRename, w.opLink, w.opUnlink, w.opMkdir, w.opRmdir, w.opRenameDir,
	)
	return all[w.rng.IntN(len(all))]()
}

// tag makes the next write's tag.
func (w *worker) tag() uint64 { return w.r.tags.Add(1) }

// size is of anything from nothing to megabytes.
func (w *worker) size() int64 {
	switch n := w.rng.IntN(100); {
	case n < w.mix.big:
		return 1<<20 + w.rng.Int64N(2<<20)
	case w.mix.blobs:
		return 17<<10 + w.rng.Int64N(60<<10)
	case n < 15:
		return w.rng.Int64N(200)
	case n < 55:
		return w.rng.Int64N(16 << 10)
	default:
		return 16<<10 + w.rng.Int64N(200<<10)
	}
}

// somePath is the path of a file that may be there or not, in a directory that is.
func (w *worker) somePath() string {
	dirs := w.world().dirs()
	if len(dirs) > 0 && w.rng.IntN(3) == 0 {
		return fmt.Sprintf("%s/g%d", dirs[w.rng.IntN(len(dirs))], w.rng.IntN(3))
	}
	return fmt.Sprintf("f%d", w.rng.IntN(6))
}

// someFile is a file that is there, "" if there is none.
func (w *worker) someFile() string { return w.one(w.world().files()) }

func (w *worker) one(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[w.rng.IntN(len(list))]
}

func (w *worker) opPut() error {
	p, c := w.somePath(), content{}.join(run{w.tag(), w.size()})
	err := w.r.put(w.key(p), c.bytes())
	return w.step(err, func(x *world) { x.create(p, c) }, "PUT %s %s", p, c)
}

func (w *worker) opMultipart() error {
	const part = 5 << 20
	p := w.somePath()
	c := content{}.join(run{w.tag(), part}).join(run{w.tag(), 1 + w.rng.Int64N(100<<10)})
	err := w.r.multipart(w.key(p), c.bytes(), part)
	return w.step(err, func(x *world) { x.create(p, c) }, "multipart %s %s", p, c)
}

func (w *worker) opGet() error {
	p, before := w.somePath(), w.r.mounts.Load()
	b, _, absent, err := w.r.get(w.key(p))
	return w.read1(p, b, absent, err, viewS3, before)
}

func (w *worker) opRead() error {
	p, before := w.somePath(), w.r.mounts.Load()
	b, err := os.ReadFile(w.r.path(w.key(p)))
	absent := errors.Is(err, os.ErrNotExist)
	if absent {
		err = nil
	}
	return w.read1(p, b, absent, err, viewMount, before)
}

// read1 compares what a read showed with what is to be there. Before it began so many
// mounts had been killed: it may be the answer of one that was killed since.
func (w *worker) read1(p string, b []byte, absent bool, err error, view string, before int64) error {
	var lie *inconsistent
	if errors.As(err, &lie) {
		w.bad("%v", err)
		return errUnsure
	}
	if err := w.step(err, func(*world) {}, "read %s by %s: %d bytes, absent=%v", p, view, len(b), absent); err != nil {
		return err
	}
	x, mounts := w.world(), w.r.mounts.Load()
	id, there := x.names[p]
	if absent != !there {
		w.bad("reading %s by %s: there=%v, and should be %v", p, view, !absent, there)
		return errUnsure
	}
	if absent {
		return nil
	}
	c, why := x.find(id, b, mounts, w.mix.fault)
	if why != "" {
		w.bad("reading %s by %s: %s", p, view, why)
		return errUnsure
	}
	x.saw(id, c, view, before)
	return nil
}

func (w *worker) opDelete() error {
	p := w.somePath()
	err := w.r.remove(w.key(p))
	return w.step(err, func(x *world) { delete(x.names, p) }, "DELETE %s", p)
}

func (w *worker) opCopy() error {
	from, to := w.someFile(), w.somePath()
	if from == "" || from == to {
		return nil
	}
	before := w.r.mounts.Load()
	err := w.r.copy(w.key(from), w.key(to))
	return w.step(err, func(x *world) {
		if x.names[from] == x.names[to] {
			return // two links of one file: a copy onto itself, which keeps the inode
		}
		src := x.inodes[x.names[from]]
		id := x.create(to, src.now)
		if before == w.r.mounts.Load() && err == nil {
			x.settle(x.names[from])
			return
		}
		x.inodes[id] = inode{now: src.now, olds: src.olds, mounts: -1}
	}, "copy %s to %s", from, to)
}

// opList compares a listing with what is to be there.
func (w *worker) opList() error {
	keys, err := w.r.list(w.dir + "/")
	var lie *inconsistent
	if errors.As(err, &lie) {
		w.bad("%v", err)
		return errUnsure
	}
	if err := w.step(err, func(*world) {}, "LIST: %d keys", len(keys)); err != nil {
		return err
	}
	mounts := w.r.mounts.Load()
	if w.world().anyUnsure(mounts) {
		return errUnsure
	}
	got := map[string]int64{}
	for _, o := range keys {
		if name := strings.TrimPrefix(*o.Key, w.dir+"/"); name != "" {
			got[name] = aws.ToInt64(o.Size)
		}
	}
	for p, id := range w.world().names {
		name := p
		if id == dirID {
			name = p + "/"
		}
		n, ok := got[name]
		if ok && id == dirID {
			ok = n == 0
		} else if ok {
			ok = w.world().hasSize(id, n, mounts, w.mix.fault)
		}
		if !ok {
			w.bad("LIST has %s: %d bytes; there should be %s", name, n, w.world().inodes[id].now)
			return errUnsure
		}
		delete(got, name)
	}
	if len(got) > 0 {
		w.bad("LIST has what is not there: %v", got)
		return errUnsure
	}
	return nil
}

func (w *worker) someDir() string { return fmt.Sprintf("d%d", w.rng.IntN(4)) }

func (w *worker) opPutDir() error {
	d := w.someDir()
	err := w.r.put(w.key(d)+"/", nil)
	return w.step(err, func(x *world) { x.names[d] = dirID }, "PUT %s/", d)
}

// expect turns an error that the model foresees into none, and the absence of that
// error into a violation.
func (w *worker) expect(err, want error, format string, args ...any) error {
	if errors.Is(err, want) || err != nil && unknown(err) {
		w.log(format+": %v", append(args, err)...)
		if errors.Is(err, want) {
			return nil
		}
		return errUnsure
	}
	w.bad(format+": %v, and it should be %v", append(args, err, want)...)
	return errUnsure
}

func (w *worker) opMkdir() error {
	d := w.someDir()
	err := w.durably(os.Mkdir(w.r.path(w.key(d)), 0o755), d)
	if _, there := w.world().names[d]; there {
		return w.expect(err, os.ErrExist, "mkdir %s", d)
	}
	return w.step(err, func(x *world) { x.names[d] = dirID }, "mkdir %s", d)
}

func (w *worker) opRmdir() error {
	d := w.someDir()
	_, there := w.world().names[d]
	empty := len(w.world().below(d)) == 0
	if there && empty && w.rng.IntN(3) == 0 {
		err := w.r.remove(w.key(d) + "/")
		return w.step(err, func(x *world) { delete(x.names, d) }, "DELETE %s/", d)
	}
	err := w.durably(rmdir(w.r.path(w.key(d))), d)
	switch {
	case !there:
		return w.expect(err, os.ErrNotExist, "rmdir %s", d)
	case !empty:
		return w.expect(err, errNotEmpty, "rmdir %s", d)
	}
	return w.step(err, func(x *world) { delete(x.names, d) }, "rmdir %s", d)
}

func (w *worker) opUnlink() error {
	p := w.somePath()
	_, there := w.world().names[p]
	err := w.durably(os.Remove(w.r.path(w.key(p))), p)
	if !there {
		return w.expect(err, os.ErrNotExist, "unlink %s", p)
	}
	return w.step(err, func(x *world) { delete(x.names, p) }, "unlink %s", p)
}

func (w *worker) opRename() error {
	from, to := w.someFile(), w.somePath()
	if from == "" || from == to {
		return nil
	}
	err := w.durably(os.Rename(w.r.path(w.key(from)), w.r.path(w.key(to))), from, to)
	return w.step(err, func(x *world) { x.rename(from, to) }, "rename %s to %s", from, to)
}

// opRenameDir renames a directory with all that is in it, in one step.
func (w *worker) opRenameDir() error {
	from, to := w.one(w.world().dirs()), w.someDir()
	if from == "" || from == to {
		return nil
	}
	err := w.durably(renameDir(w.r.path(w.key(from)), w.r.path(w.key(to))), from, to)
	if _, there := w.world().names[to]; there && len(w.world().below(to)) > 0 {
		return w.expect(err, errNotEmpty, "rename %s/ to %s/", from, to)
	}
	return w.step(err, func(x *world) { x.rename(from, to) }, "rename %s/ to %s/", from, to)
}

func (w *worker) opLink() error {
	from, to := w.someFile(), w.somePath()
	if from == "" {
		return nil
	}
	err := w.durably(os.Link(w.r.path(w.key(from)), w.r.path(w.key(to))), to)
	if _, there := w.world().names[to]; there {
		return w.expect(err, os.ErrExist, "link %s to %s", from, to)
	}
	return w.step(err, func(x *world) { x.names[to] = x.names[from] }, "link %s to %s", from, to)
}

// unhold closes a file that was held open.
func (w *worker) unhold(h *held) {
	if err := h.f.Close(); err != nil {
		w.log("close inode %d: %v", h.id, err)
		for _, x := range w.worlds {
			x.doubt(h.id)
		}
	}
	w.held = slices.DeleteFunc(w.held, func(o *held) bool { return o == h })
}
