package fsm

import (
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// rig drives a machine: one session, one command at a time.
type rig struct {
	t       testing.TB
	store   kv.Store
	m       *Machine
	index   uint64
	session twofold.SessionID
	seq     uint64
	now     twofold.Time
	log     []Entry
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, store: kv.NewMemory(), now: 1000}
	r.reopen()
	res := r.raw(&metadata.Command{Op: metadata.OpBeginSession, Body: &metadata.BeginSession{Kind: metadata.SessionServer, Nonce: twofold.UUID{1}}})
	r.session = twofold.SessionID(res.ID)
	return r
}

func (r *rig) reopen() {
	var err error
	if r.m, err = New(r.store, Options{}); err != nil {
		r.t.Fatal(err)
	}
}

// raw applies a command as it is.
func (r *rig) raw(c *metadata.Command) metadata.Result {
	r.t.Helper()
	r.now++
	if c.Now == 0 {
		c.Now = r.now
	}
	b, err := metadata.Encode(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.index++
	e := Entry{Index: r.index, Term: 1, Data: b}
	r.log = append(r.log, e)
	res, err := r.m.ApplyBatch([]Entry{e})
	if err != nil {
		r.t.Fatal(err)
	}
	return res[0]
}

// do applies a command in the rig's session.
func (r *rig) do(op metadata.Op, body any) metadata.Result {
	r.t.Helper()
	r.seq++
	return r.raw(&metadata.Command{Op: op, Session: r.session, Seq: r.seq, Acked: r.seq, Writer: r.session, Body: body})
}

// ok is do for a command that must succeed.
func (r *rig) ok(op metadata.Op, body any) metadata.Result {
	r.t.Helper()
	res := r.do(op, body)
	if res.Failed {
		r.t.Fatalf("%T %+v: %v %s", body, body, res.Kind, res.Msg)
	}
	return res
}

func (r *rig) check() {
	r.t.Helper()
	if err := r.m.View(Check); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) view(fn func(v metadata.View)) {
	r.t.Helper()
	if err := r.m.View(func(v metadata.View) error { fn(v); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) bucket(name string) *metadata.Bucket {
	return r.ok(metadata.OpCreateBucket, metadata.CreateBucket{Name: twofold.BucketName(name)}).Bucket
}

func (r *rig) put(b *metadata.Bucket, key, data string) *metadata.Inode {
	r.t.Helper()
	p := metadata.PutObject{Bucket: b.ID, Key: twofold.Key(key), Content: metadata.Content{Size: int64(len(data)), ETag: "e" + data}}
	if data != "" {
		p.Extents = []metadata.Extent{{Len: int64(len(data)), Data: []byte(data)}}
	}
	return r.ok(metadata.OpPutObject, p).Inode
}

func (r *rig) keys(b *metadata.Bucket, q metadata.ListQuery) (keys []string) {
	r.view(func(v metadata.View) {
		if q.Max == 0 {
			q.Max = 1000
		}
		p, err := v.List(b.ID, q)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, it := range p.Items {
			keys = append(keys, it.Key)
		}
	})
	return keys
}

func TestSmoke(t *testing.T) {
	r := newRig(t)
	b := r.bucket("one")
	r.put(b, "a", "x")
	r.put(b, "a/b/c", "hello")
	r.put(b, "a/!", "hello")
	r.put(b, "a!", "hello")
	r.put(b, "a0", "hello")
	r.put(b, "dir/", "")
	t.Log(r.keys(b, metadata.ListQuery{}))
	t.Log(r.keys(b, metadata.ListQuery{Delimiter: "/"}))
	res := r.ok(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile, Mode: 0o644})
	r.ok(metadata.OpWrite, metadata.Write{Ino: res.Inode.Ino, Extents: []metadata.Extent{{Off: 0, Len: 5, Data: []byte("01234")}}})
	r.ok(metadata.OpRename, metadata.Rename{OldParent: b.Root, OldName: metadata.Name{Comp: "a"}, NewParent: b.Root, NewName: metadata.Name{Comp: "z"}})
	t.Log(r.keys(b, metadata.ListQuery{}))
	r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "f"}})
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: res.Inode.Ino})
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "z/b/c"})
	t.Log(r.keys(b, metadata.ListQuery{}))
	r.check()
}
