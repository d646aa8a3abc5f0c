package volume

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/internal/acl"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// decider is a mount that decides about directories on its own: what it has done it commits
// when it is recalled.
type decider struct {
	t *testing.T
	s *Session

	mu       sync.Mutex
	held     map[twofold.Ino]uint64
	asking   map[twofold.Ino]chan struct{} // closed when AcquireDir was answered
	ops      []api.BatchOp                 // done, and not committed
	next     twofold.Ino
	last     twofold.Ino
	recalled int
	stuck    bool
	told     map[twofold.Ino]int // invalidations
}

var _ api.Holder = (*decider)(nil)

func (h *harness) decider(t *testing.T) *decider {
	d := &decider{t: t, held: map[twofold.Ino]uint64{}, asking: map[twofold.Ino]chan struct{}{}, told: map[twofold.Ino]int{}}
	s, err := h.v.BeginMount(ctx, "test", d)
	if err != nil {
		t.Fatal(err)
	}
	s.Cache()
	s.Homes()
	d.s = s
	return d
}

func (d *decider) Lost(error) {}

func (d *decider) Held() (h api.Held) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ino, token := range d.held {
		h.Writes = append(h.Writes, api.HeldWrite{Ino: ino, Token: token})
	}
	return h
}

func (d *decider) Invalidate(_ context.Context, stale []api.Stale) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range stale {
		d.told[s.Ino]++
	}
	return nil
}

func (d *decider) Recall(ctx context.Context, ino twofold.Ino, token uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answered := d.asking[ino]; answered != nil && d.held[ino] != token {
		d.mu.Unlock() // it may be of what is on its way
		<-answered
		d.mu.Lock()
	}
	if d.held[ino] != token {
		return nil
	}
	if d.stuck {
		return errs.Newf("test", errs.Unwritten, "no space")
	}
	d.recalled++
	if err := d.flush(ctx); err != nil {
		d.t.Errorf("a flush: %v", err)
	}
	delete(d.held, ino)
	return d.s.ReleaseWrite(ctx, ino, token)
}

// flush is called with mu held.
func (d *decider) flush(ctx context.Context) error {
	if len(d.ops) == 0 {
		return nil
	}
	b := api.Batch{Ops: d.ops}
	d.ops = nil
	for ino, token := range d.held {
		b.Dirs = append(b.Dirs, api.HeldWrite{Ino: ino, Token: token})
	}
	res, err := d.s.Batch(ctx, b)
	if err != nil {
		err = fmt.Errorf("operation %d: %w", res.Failed, err)
	}
	return err
}

// own gets the lease of a directory, as soon as nobody is in the way.
func (d *decider) own(dir twofold.Ino) api.DirLease {
	d.t.Helper()
	var l api.DirLease
	eventually(d.t, "the lease of a directory is granted", func() bool {
		var err error
		if l, err = d.ask(dir); err != nil && !errs.Is(err, errs.Busy) {
			d.t.Fatal(err)
		}
		return err == nil
	})
	return l
}

// ask asks for the lease of a directory, unless it has it: the answer could come behind a recall.
func (d *decider) ask(dir twofold.Ino) (api.DirLease, error) {
	answered := make(chan struct{})
	defer close(answered)
	d.mu.Lock()
	if token, has := d.held[dir]; has {
		d.mu.Unlock()
		return api.DirLease{Token: token}, nil
	}
	d.asking[dir] = answered
	d.mu.Unlock()
	l, err := d.s.AcquireDir(ctx, dir)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.asking, dir)
	if err == nil {
		d.held[dir] = l.Token
	}
	return l, err
}

// ino is a number for a new inode.
func (d *decider) ino() twofold.Ino {
	if d.next == d.last {
		first, n, err := d.s.Inos(ctx, 1000)
		if err != nil {
			d.t.Fatal(err)
		}
		d.next, d.last = first, first+twofold.Ino(n)
	}
	d.next++
	return d.next - 1
}

// Operations that return with nothing committed.

func (d *decider) create(dir twofold.Ino, name string, ty metadata.Type) twofold.Ino {
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := d.ino()
	d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Create: &api.BatchCreate{Dir: dir, Name: name, Ino: ino, Type: ty, Mode: 0o640}})
	if ty == metadata.TypeFile {
		d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Write: &api.BatchWrite{Ino: ino, Segments: []api.Segment{{Data: []byte("local")}}, Size: 5}})
	}
	return ino
}

func (d *decider) unlink(dir twofold.Ino, name string, ino twofold.Ino) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Unlink: &api.BatchName{Dir: dir, Name: name, Ino: ino}})
}

func (d *decider) rename(dir twofold.Ino, from, to string, ino twofold.Ino) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops = append(d.ops, api.BatchOp{Now: twofold.Now(), Rename: &api.BatchRename{OldDir: dir, OldName: from, NewDir: dir, NewName: to, Ino: ino}})
}

func (d *decider) recalls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recalled
}

// scene is a directory with the files "old", "gone" and "was" and the directory "sub" (with
// "f"), of which a decider has the lease: on its own it has made "new" (of "local") and the
// directory "made", removed "gone", and renamed "was" to "is".
type scene struct {
	*harness
	t         *testing.T
	d         *decider
	o         *Session // of another mount
	root, dir twofold.Ino
	key       string // of dir, with "/"
	old, gone twofold.Ino
	was, sub  twofold.Ino
}

func (h *harness) scene(t *testing.T, d *decider, o *Session, name string) *scene {
	s := &scene{harness: h, t: t, d: d, o: o, key: name + "/"}
	for _, k := range []string{"old", "gone", "was", "sub/f"} {
		h.put("docs", s.key+k, []byte("x"))
	}
	look := func(dir twofold.Ino, name string) twofold.Ino {
		a, err := d.s.Lookup(ctx, dir, name)
		if err != nil {
			t.Fatal(err)
		}
		return a.Ino
	}
	s.root = look(twofold.RootIno, "docs")
	s.dir = look(s.root, name)
	s.old, s.gone, s.was, s.sub = look(s.dir, "old"), look(s.dir, "gone"), look(s.dir, "was"), look(s.dir, "sub")
	if l := d.own(s.dir); !l.Attr.Leased || !l.Unlimited || l.DefaultACL || l.Attr.Ino != s.dir {
		t.Fatalf("granted %+v", l)
	}
	d.create(s.dir, "new", metadata.TypeFile)
	d.create(s.dir, "made", metadata.TypeDir)
	d.unlink(s.dir, "gone", s.gone)
	d.rename(s.dir, "was", "is", s.was)
	return s
}

func (s *scene) names(es []api.DirEntry, _ bool, err error) string {
	var all []string
	for _, e := range es {
		all = append(all, e.Name)
	}
	return fmt.Sprint(strings.Join(all, " "), err)
}

func (s *scene) k(name string) twofold.Key { return twofold.Key(s.key + name) }

func kind(err error) string {
	if err == nil {
		return "ok"
	}
	return fmt.Sprint(errs.KindOf(err))
}

func attr(a api.Attr, err error) string { return fmt.Sprint(a.Size, a.Leased, " ", kind(err)) }

func (s *scene) list(q metadata.ListQuery) string {
	q.Max = 100
	p, err := s.v.List(ctx, "docs", q)
	var keys []string
	for _, it := range p.Items {
		keys = append(keys, it.Key)
	}
	return strings.ReplaceAll(strings.Join(keys, " "), s.key, "") + " " + kind(err)
}

func (s *scene) copyTo(from, to string) string {
	_, err := s.v.CopyObject(ctx, &api.CopyInput{SrcBucket: "docs", SrcKey: s.k(from), Bucket: "docs", Key: s.k(to),
		Prepare: func(api.ObjectInfo) (api.Attrs, api.Sum, error) { return api.Attrs{}, api.Sum{}, nil }})
	return kind(err)
}

func (s *scene) complete(key string, cond metadata.Conditions) string {
	id, err := s.v.CreateUpload(ctx, &api.UploadInput{Bucket: "docs", Key: s.k(key)})
	if err != nil {
		s.t.Fatal(err)
	}
	ref := api.UploadRef{Bucket: "docs", Key: s.k(key), ID: id}
	body := put("docs", key, []byte("part"))
	p, err := s.v.PutPart(ctx, &api.PartInput{UploadRef: ref, Number: 1, Body: body.Body, Size: 4, Finish: body.Finish})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.v.CompleteUpload(ctx, &api.CompleteInput{UploadRef: ref, Parts: []metadata.PartRef{{Number: 1, ETag: p.ETag}}, Cond: cond})
	return kind(err)
}

func (s *scene) copyPart(from string) string {
	id, err := s.v.CreateUpload(ctx, &api.UploadInput{Bucket: "docs", Key: "up"})
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = s.v.CopyPart(ctx, &api.PartCopyInput{UploadRef: api.UploadRef{Bucket: "docs", Key: "up", ID: id}, Number: 1, SrcBucket: "docs", SrcKey: s.k(from),
		Prepare: func(o api.ObjectInfo) (int64, int64, api.Sum, error) { return 0, o.Size, api.Sum{ETag: o.ETag}, nil }})
	return kind(err)
}

var unless = metadata.Conditions{IfNoneMatch: "*"}

// TestLookersRecallDirectories: whatever looks at a directory that a mount decides about, or at
// an inode whose home it is, sees what the mount has done, by all ways there are.
func TestLookersRecallDirectories(t *testing.T) {
	cases := []struct {
		name string
		do   func(s *scene) string
		want string
	}{
		{"GET of a new file", func(s *scene) string { return string(s.get("docs", s.key+"new")) }, "local"},
		{"GET of a removed file", func(s *scene) string {
			_, _, err := s.v.GetObject(ctx, "docs", s.k("gone"))
			return kind(err)
		}, "not found"},
		{"HEAD of a renamed file", func(s *scene) string {
			i, err := s.v.HeadObject(ctx, "docs", s.k("is"))
			return fmt.Sprint(i.Size, kind(err))
		}, "1ok"},
		{"HEAD of a new directory", func(s *scene) string {
			_, err := s.v.HeadObject(ctx, "docs", s.k("made/"))
			return kind(err)
		}, "ok"},
		{"GET below what is not there", func(s *scene) string {
			_, _, err := s.v.GetObject(ctx, "docs", s.k("no/such"))
			return kind(err)
		}, "not found"},
		{"LIST", func(s *scene) string { return s.list(metadata.ListQuery{Prefix: s.key}) }, " is made/ new old sub/f ok"},
		{"LIST with a delimiter", func(s *scene) string { return s.list(metadata.ListQuery{Prefix: s.key, Delimiter: "/"}) }, " is made/ new old sub/ ok"},
		{"LIST of what is left", func(s *scene) string {
			return s.list(metadata.ListQuery{Prefix: s.key, After: s.key + "sub/f"})
		}, " ok"},
		{"LIST of a prefix that nothing has", func(s *scene) string { return s.list(metadata.ListQuery{Prefix: s.key + "ne"}) }, "new ok"},
		{"copy of a new file", func(s *scene) string { return s.copyTo("new", "copy") }, "ok"},
		{"copy of a removed file", func(s *scene) string { return s.copyTo("gone", "copy") }, "not found"},
		{"part copied of a new file", func(s *scene) string { return s.copyPart("new") }, "ok"},
		{"part copied of a removed file", func(s *scene) string { return s.copyPart("gone") }, "not found"},

		{"lookup of a new file", func(s *scene) string { return attr(s.o.Lookup(ctx, s.dir, "new")) }, "5 true ok"},
		{"lookup of a removed file", func(s *scene) string {
			a, err := s.o.Lookup(ctx, s.dir, "gone")
			return fmt.Sprint(a.Ino, a.NameLeased, kind(err))
		}, "0 trueok"},
		{"stat of the directory", func(s *scene) string {
			a, err := s.o.GetAttr(ctx, s.dir)
			return fmt.Sprint(a.Nlink, kind(err))
		}, "4ok"},
		{"stat of a removed file", func(s *scene) string {
			a, err := s.o.GetAttr(ctx, s.gone)
			return fmt.Sprint(a.Nlink, kind(err))
		}, "0ok"},
		{"stat of a renamed file", func(s *scene) string {
			a, err := s.o.GetAttr(ctx, s.was)
			return fmt.Sprint(a.Ctime > a.Mtime, kind(err))
		}, "trueok"},
		{"readdir", func(s *scene) string { return s.names(s.o.ReadDir(ctx, s.dir, "", 100, false)) }, "is made new old sub<nil>"},
		{"readdirplus", func(s *scene) string { return s.names(s.o.ReadDir(ctx, s.dir, "", 100, true)) }, "is made new old sub<nil>"},
		{"readdir of what is left", func(s *scene) string { return s.names(s.o.ReadDir(ctx, s.dir, "sub/", 100, true)) }, "<nil>"},
		{"read of a file in it", func(s *scene) string {
			n, err := s.o.Read(ctx, s.gone, 0, make([]byte, 10))
			return fmt.Sprint(n, kind(err))
		}, "1ok"},
		{"listxattr", func(s *scene) string {
			_, err := s.o.ListXattr(ctx, s.dir)
			return kind(err)
		}, "ok"},
		{"getxattr of a file in it", func(s *scene) string {
			_, err := s.o.GetXattr(ctx, s.old, "user.none")
			return kind(err)
		}, "no such attribute"},
	}
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := h.scene(t, d, other.s, fmt.Sprintf("d%d", i))
			before := d.recalls()
			if got := c.do(s); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if n := d.recalls() - before; n != 1 {
				t.Errorf("recalled %d times", n)
			}
		})
	}
}

// TestChangersRecallDirectories: whatever changes something in a directory that a mount decides
// about changes what the mount has made of it.
func TestChangersRecallDirectories(t *testing.T) {
	one := func(_ any, err error) string { return kind(err) }
	cases := []struct {
		name string
		do   func(s *scene) string
		want string
		left string // keys behind it
	}{
		{"PUT over a new file", func(s *scene) string {
			s.put("docs", s.key+"new", []byte("put"))
			a, err := s.o.Lookup(ctx, s.dir, "new")
			return fmt.Sprintf("%o %d %s", a.Mode, a.Size, kind(err)) // mode is kept
		}, "640 3 ok", " is made/ new old sub/f ok"},
		{"PUT of another name", func(s *scene) string { return one(s.v.PutObject(ctx, put("docs", s.key+"put", nil))) }, "ok", " is made/ new old put sub/f ok"},
		{"PUT below a new directory", func(s *scene) string { return one(s.v.PutObject(ctx, put("docs", s.key+"made/put", nil))) }, "ok", " is made/ made/put new old sub/f ok"},
		{"PUT below a new name", func(s *scene) string { return one(s.v.PutObject(ctx, put("docs", s.key+"none/put", nil))) }, "ok", " is made/ new none/put old sub/f ok"},
		{"PUT of the directory", func(s *scene) string { return one(s.v.PutObject(ctx, put("docs", s.key, nil))) }, "ok", " is made/ new old sub/f ok"},
		{"PUT unless it is there", func(s *scene) string {
			in := put("docs", s.key+"new", []byte("put"))
			in.Cond = unless
			return one(s.v.PutObject(ctx, in))
		}, "precondition failed", " is made/ new old sub/f ok"},
		{"PUT unless it is there, and it went", func(s *scene) string {
			in := put("docs", s.key+"gone", []byte("put"))
			in.Cond = unless
			return one(s.v.PutObject(ctx, in))
		}, "ok", " gone is made/ new old sub/f ok"},
		{"DELETE of a new file", func(s *scene) string { return kind(s.v.DeleteObject(ctx, "docs", s.k("new"), metadata.Conditions{})) }, "ok", " is made/ old sub/f ok"},
		{"DELETE of a removed file", func(s *scene) string { return kind(s.v.DeleteObject(ctx, "docs", s.k("gone"), metadata.Conditions{})) }, "ok", " is made/ new old sub/f ok"},
		{"DELETE below what is not there", func(s *scene) string {
			return kind(s.v.DeleteObject(ctx, "docs", s.k("no/such"), metadata.Conditions{}))
		}, "ok", " is made/ new old sub/f ok"},
		{"copy over a renamed file", func(s *scene) string { return s.copyTo("sub/f", "is") }, "ok", " is made/ new old sub/f ok"},
		{"complete over a new file", func(s *scene) string { return s.complete("new", metadata.Conditions{}) }, "ok", " is made/ new old sub/f ok"},
		{"complete unless it is there", func(s *scene) string { return s.complete("new", unless) }, "precondition failed", " is made/ new old sub/f ok"},

		{"create", func(s *scene) string {
			_, _, err := s.o.Create(ctx, s.dir, "new", api.Create{Type: metadata.TypeFile, Exclusive: true})
			return kind(err)
		}, "already exists", " is made/ new old sub/f ok"},
		{"open with O_CREAT", func(s *scene) string {
			a, existed, err := s.o.Create(ctx, s.dir, "new", api.Create{Type: metadata.TypeFile})
			return fmt.Sprint(a.Size, existed, kind(err))
		}, "5 trueok", " is made/ new old sub/f ok"},
		{"unlink", func(s *scene) string { return kind(s.o.Unlink(ctx, s.dir, "new")) }, "ok", " is made/ old sub/f ok"},
		{"unlink of what went", func(s *scene) string { return kind(s.o.Unlink(ctx, s.dir, "was")) }, "not found", " is made/ new old sub/f ok"},
		{"rmdir", func(s *scene) string { return kind(s.o.Rmdir(ctx, s.dir, "made")) }, "ok", " is new old sub/f ok"},
		{"rmdir of the directory", func(s *scene) string { return kind(s.o.Rmdir(ctx, s.root, s.key[:len(s.key)-1])) }, "directory not empty", " is made/ new old sub/f ok"},
		{"rename within", func(s *scene) string { return kind(s.o.Rename(ctx, s.dir, "new", s.dir, "is", 0)) }, "ok", " is made/ old sub/f ok"},
		{"rename out of it", func(s *scene) string { return kind(s.o.Rename(ctx, s.dir, "new", s.sub, "new", 0)) }, "ok", " is made/ old sub/ sub/f sub/new ok"},
		{"rename into it", func(s *scene) string { return kind(s.o.Rename(ctx, s.sub, "f", s.dir, "is", 1)) }, "already exists", " is made/ new old sub/f ok"},
		{"rename of the directory", func(s *scene) string {
			name := s.key[:len(s.key)-1]
			if err := s.o.Rename(ctx, s.root, name, s.root, name+"moved", 0); err != nil {
				return kind(err)
			}
			s.key = name + "moved/"
			return "ok"
		}, "ok", " is made/ new old sub/f ok"},
		{"exchange", func(s *scene) string { return kind(s.o.Rename(ctx, s.dir, "new", s.sub, "f", 2)) }, "ok", " is made/ new old sub/ sub/f ok"},
		{"link to a file in it", func(s *scene) string {
			a, err := s.o.Link(ctx, s.was, s.sub, "link")
			return fmt.Sprint(a.Nlink, kind(err))
		}, "2ok", " is made/ new old sub/ sub/f sub/link ok"},
		{"link to a removed file", func(s *scene) string { return one(s.o.Link(ctx, s.gone, s.sub, "link")) }, "not found", " is made/ new old sub/f ok"},
		{"link into it", func(s *scene) string { return one(s.o.Link(ctx, s.old, s.dir, "new")) }, "already exists", " is made/ new old sub/f ok"},
		{"tmpfile", func(s *scene) string { return one(s.o.Tmpfile(ctx, s.dir, api.Create{})) }, "ok", " is made/ new old sub/f ok"},
		{"chmod of the directory", func(s *scene) string {
			mode := uint32(0o2755)
			return one(s.o.SetAttr(ctx, s.dir, api.SetAttr{Mode: &mode}))
		}, "ok", " is made/ new old sub/f ok"},
		{"chmod of a file in it", func(s *scene) string {
			mode := uint32(0o600)
			a, err := s.o.SetAttr(ctx, s.gone, api.SetAttr{Mode: &mode})
			return fmt.Sprint(a.Nlink, kind(err))
		}, "0ok", " is made/ new old sub/f ok"},
		{"setxattr", func(s *scene) string { return kind(s.o.SetXattr(ctx, s.was, "user.k", []byte("v"), 0)) }, "ok", " is made/ new old sub/f ok"},
		{"removexattr", func(s *scene) string { return kind(s.o.RemoveXattr(ctx, s.dir, "user.k")) }, "no such attribute", " is made/ new old sub/f ok"},
		{"default ACL", func(s *scene) string { return kind(s.o.RemoveXattr(ctx, s.dir, acl.DefaultName)) }, "ok", " is made/ new old sub/f ok"},
		{"write to a file in it", func(s *scene) string {
			a, err := s.o.Write(ctx, s.gone, api.Write{Segments: []api.Segment{{Data: []byte("w")}}, Size: 1})
			return fmt.Sprint(a.Nlink, kind(err))
		}, "0ok", " is made/ new old sub/f ok"},
		{"write lease of a file in it", func(s *scene) string {
			l, err := s.o.AcquireWrite(ctx, s.gone)
			return fmt.Sprint(l.Attr.Nlink, kind(err))
		}, "0ok", " is made/ new old sub/f ok"},
		{"copy_file_range", func(s *scene) string {
			a, _, err := s.o.CopyRange(ctx, api.CopyRange{Src: s.old, Dst: s.was, Len: 1})
			return fmt.Sprint(a.Ctime > a.Btime, kind(err))
		}, "trueok", " is made/ new old sub/f ok"},
		{"quota", func(s *scene) string {
			defer s.v.SetQuota(ctx, "docs", 0)
			return kind(s.v.SetQuota(ctx, "docs", 1<<40))
		}, "ok", " is made/ new old sub/f ok"},
	}
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := h.scene(t, d, other.s, fmt.Sprintf("d%d", i))
			before := d.recalls()
			if got := c.do(s); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if n := d.recalls() - before; n != 1 {
				t.Errorf("recalled %d times", n)
			}
			if got := s.list(metadata.ListQuery{Prefix: s.key}); got != c.left {
				t.Errorf("there is %q, want %q", got, c.left)
			}
		})
	}
}

// TestWhoPassesByRecallsNothing: the mount's own calls, what happens in other directories, and
// ways that lead through the directory to one in it.
func TestWhoPassesByRecallsNothing(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	s := h.scene(t, d, other.s, "d")
	h.put("docs", "e/f", []byte("x"))
	before := d.recalls()
	h.put("docs", "e/g", []byte("x"))
	h.put("docs", "d/sub/g", []byte("x"))
	h.get("docs", "d/sub/f")
	s.list(metadata.ListQuery{Prefix: "d/sub/"})
	s.list(metadata.ListQuery{Delimiter: "/"})
	if err := h.v.DeleteObject(ctx, "docs", "d/sub/g", metadata.Conditions{}); err != nil {
		t.Error(err)
	}
	if a, err := s.o.Lookup(ctx, s.dir, "sub"); err != nil || !a.Leased || a.NameLeased {
		t.Errorf("a directory in one that another mount decides about: %+v, %v", a, err)
	}
	if _, err := s.o.Open(ctx, s.old); err != nil { // waits for nobody
		t.Error(err)
	}
	if _, _, err := d.s.Create(ctx, s.dir, "own", api.Create{Type: metadata.TypeFile}); err != nil {
		t.Error(err)
	}
	mode := uint32(0o700)
	if _, err := d.s.SetAttr(ctx, s.dir, api.SetAttr{Mode: &mode}); err != nil {
		t.Error(err)
	}
	if _, err := d.s.Link(ctx, s.old, s.sub, "link"); err != nil {
		t.Error(err)
	}
	if a, err := d.s.Lookup(ctx, s.dir, "old"); err != nil || !a.Leased || !a.NameLeased || a.Home != 0 {
		t.Errorf("the mount's own look: %+v, %v", a, err)
	}
	if _, err := d.s.AcquireWrite(ctx, s.dir); !errs.Is(err, errs.IsDir) {
		t.Errorf("a file's lease of the directory: %v", err)
	}
	if n := d.recalls() - before; n != 0 {
		t.Errorf("recalled %d times", n)
	}
	if got := s.list(metadata.ListQuery{Prefix: "d/"}); got != " is made/ new old own sub/ sub/f sub/link ok" {
		t.Errorf("there is %q", got)
	}
}

// TestBucketRootIsLeased: what looks at the bucket itself, or removes it.
func TestBucketRootIsLeased(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	root, err := d.s.Lookup(ctx, twofold.RootIno, "docs")
	if err != nil {
		t.Fatal(err)
	}
	for i, do := range []func() error{
		func() error { _, err := other.s.Lookup(ctx, twofold.RootIno, "docs"); return err },
		func() error { _, _, err := other.s.ReadDir(ctx, twofold.RootIno, "", 100, true); return err },
		func() error {
			if err := h.v.DeleteBucket(ctx, "docs"); !errs.Is(err, errs.BucketNotEmpty) {
				return fmt.Errorf("the bucket was removed: %w", err)
			}
			return nil
		},
		func() error {
			if err := other.s.Rmdir(ctx, twofold.RootIno, "docs"); !errs.Is(err, errs.BucketNotEmpty) {
				return fmt.Errorf("the bucket was removed: %w", err)
			}
			return nil
		},
	} {
		before := d.recalls()
		d.own(root.Ino)
		d.create(root.Ino, fmt.Sprint("f", i), metadata.TypeFile)
		if err := do(); err != nil || d.recalls() != before+1 {
			t.Errorf("%d: %v, recalled %d times", i, err, d.recalls()-before)
		}
	}
	for _, bad := range []twofold.Ino{twofold.RootIno, levelBit | 1} {
		if _, err := d.s.AcquireDir(ctx, bad); !errs.Is(err, errs.Unsupported) {
			t.Errorf("the lease of %d: %v", bad, err)
		}
	}
	f, err := other.s.Lookup(ctx, root.Ino, "f0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.s.AcquireDir(ctx, f.Ino); !errs.Is(err, errs.NotDir) {
		t.Errorf("the lease of a file: %v", err)
	}
	if _, err := d.s.AcquireDir(ctx, 1<<40); !errs.Is(err, errs.Stale) {
		t.Errorf("the lease of nothing: %v", err)
	}
}

// TestDirectoryLeaseTakesReadLeases: others forget what they cache of the directory and of what
// has its home there before the lease is granted.
func TestDirectoryLeaseTakesReadLeases(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	h.put("docs", "d/f", []byte("x"))
	h.put("docs", "e", []byte("x"))
	root, _ := other.s.Lookup(ctx, twofold.RootIno, "docs")
	dir, _ := other.s.Lookup(ctx, root.Ino, "d")
	var f, e api.Attr
	eventually(t, "all is granted", func() bool {
		f, _ = other.s.Lookup(ctx, dir.Ino, "f")
		e, _ = other.s.Lookup(ctx, root.Ino, "e")
		return f.Leased && f.NameLeased && e.Leased && f.Home == dir.Ino && e.Home == root.Ino
	})
	d.own(dir.Ino)
	if other.told[dir.Ino] != 1 || other.told[f.Ino] != 1 || other.told[e.Ino] != 0 {
		t.Errorf("told of %v, the directory is %d, the file %d, another one %d", other.told, dir.Ino, f.Ino, e.Ino)
	}
}

// TestUnwrittenDirectoryIsRefused: nobody is shown a directory without what its holder can't
// commit.
func TestUnwrittenDirectoryIsRefused(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	s := h.scene(t, d, other.s, "d")
	d.mu.Lock()
	d.stuck = true
	d.mu.Unlock()
	if _, err := h.v.HeadObject(ctx, "docs", "d/new"); !errs.Is(err, errs.Unwritten) {
		t.Errorf("HEAD: %v", err)
	}
	if _, err := h.v.PutObject(ctx, put("docs", "d/put", nil)); !errs.Is(err, errs.Unwritten) {
		t.Errorf("PUT: %v", err)
	}
	if err := s.o.Unlink(ctx, s.dir, "old"); !errs.Is(err, errs.Unwritten) {
		t.Errorf("unlink: %v", err)
	}
	if err := h.v.SetQuota(ctx, "docs", 1<<40); !errs.Is(err, errs.Unwritten) {
		t.Errorf("a quota: %v", err)
	}
	d.mu.Lock()
	d.stuck = false
	d.mu.Unlock()
	if got := s.list(metadata.ListQuery{Prefix: "d/"}); !strings.Contains(got, "new") {
		t.Errorf("there is %q", got)
	}
}

// TestDirectoryLeaseOutlivesTheServer: after a restart the holder commits what it has done, and
// others wait for that; one that is late has lost it.
func TestDirectoryLeaseOutlivesTheServer(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	d, other := h.decider(t), h.decider(t)
	s := h.scene(t, d, other.s, "d")
	old := d.s
	h.open(Options{LeaseTerm: 20 * time.Second})
	got := make(chan string, 1)
	go func() { got <- s.list(metadata.ListQuery{Prefix: "d/"}) }()
	held := d.Held()
	d.mu.Lock() // a recall comes as soon as it is back
	var err error
	d.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), held, d)
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if other.s, err = h.v.ResumeMount(ctx, other.s.ID(), other.s.Token(), api.Held{}, other); err != nil {
		t.Fatal(err)
	}
	if keys := <-got; !strings.Contains(keys, "new") || strings.Contains(keys, "gone") {
		t.Errorf("there is %q", keys)
	}
	if d.recalls() != 1 {
		t.Errorf("recalled %d times", d.recalls())
	}
	d.s.Cache()
	d.own(s.dir)
	d.create(s.dir, "late", metadata.TypeFile)
	held, old = d.Held(), d.s
	h.open(Options{LeaseTerm: 50 * time.Millisecond})
	if keys := s.list(metadata.ListQuery{Prefix: "d/"}); strings.Contains(keys, "late") { // answered after the term
		t.Errorf("there is %q", keys)
	}
	if d.s, err = h.v.ResumeMount(ctx, old.ID(), old.Token(), held, d); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.flush(ctx); !errs.Is(err, errs.Fenced) {
		t.Errorf("what others did not see must not appear later: %v", err)
	}
}
