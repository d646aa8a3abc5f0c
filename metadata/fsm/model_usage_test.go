package fsm

import (
	"fmt"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// counts adds up what is in each bucket.
func (m *model) counts() map[*mbucket]share {
	all := map[*mbucket]share{}
	for n := range m.nodes {
		s := share{}
		if n.links > 0 || n.charged {
			s.used = n.data.size
		}
		s.reserved = max(0, n.reserve-s.used)
		all[n.bucket] = share{all[n.bucket].used + s.used, all[n.bucket].reserved + s.reserved}
	}
	for _, u := range m.uploads {
		b := m.bucketByID(u.Bucket)
		for _, p := range u.parts {
			all[b] = share{all[b].used + p.data.size, all[b].reserved}
		}
	}
	return all
}

// watch marks, when what it returns is called, nodes without names that have grown.
func (m *model) watch() func() {
	sizes := map[*mnode]int64{}
	for n := range m.nodes {
		if n.links == 0 {
			sizes[n] = n.data.size
		}
	}
	return func() {
		for n, size := range sizes {
			n.charged = n.charged || n.data.size > size
		}
	}
}

// within fails where a command has added to a bucket that is beyond its limit now.
func (d *duel) within(before map[*mbucket]share) {
	d.t.Helper()
	now := d.m.counts()
	for name, b := range d.m.buckets {
		was, is := before[b].used+before[b].reserved, now[b].used+now[b].reserved
		if b.limit > 0 && is > was && is > b.limit {
			d.t.Fatalf("step %d: bucket %q has %d bytes, had %d, and may have %d", d.seq, name, is, was, b.limit)
		}
	}
}

// lift takes the quotas away after one has refused a command, for that to run. What is
// returned puts them back, when the command was right to be refused.
func (d *duel) lift(before map[*mbucket]share) func() {
	limits := map[*mbucket]int64{}
	for name, b := range d.m.buckets {
		if limits[b] = b.limit; b.limit > 0 {
			d.ok(metadata.OpSetQuota, metadata.SetQuota{Bucket: name})
			b.limit = 0
		}
	}
	d.m.now = d.now + 1
	return func() {
		now, right := d.m.counts(), false
		for name, b := range d.m.buckets {
			was, is := before[b].used+before[b].reserved, now[b].used+now[b].reserved
			right = right || is > was && is > limits[b] && limits[b] > 0
			if b.limit = limits[b]; b.limit > 0 {
				d.ok(metadata.OpSetQuota, metadata.SetQuota{Bucket: name, Limit: b.limit})
			}
		}
		if !right {
			d.t.Fatalf("step %d: a quota has refused what was within all of them: %v, now %v", d.seq, before, now)
		}
	}
}

func (d *duel) compareUsage() {
	d.t.Helper()
	want := d.m.counts()
	d.view(func(v metadata.View) {
		for name, b := range d.m.buckets {
			u, counted, err := v.Usage(b.id)
			if err != nil || counted != d.counted {
				d.t.Fatalf("step %d: bucket %q: counted %v, want %v (%v)", d.seq, name, counted, d.counted, err)
			}
			if counted && (u.Used != want[b].used || u.Reserved != want[b].reserved || u.Limit != b.limit) {
				d.t.Fatalf("step %d: bucket %q: %+v, want %+v, limit %d", d.seq, name, u, want[b], b.limit)
			}
		}
	})
}

func (d *duel) usageStep() {
	switch d.rnd.IntN(4) {
	case 0, 1:
		if res := d.ok(metadata.OpCountUsage, metadata.CountUsage{Max: 1 + d.rnd.IntN(3)}); !res.More {
			d.counted = true
		}
	case 2:
		c := metadata.SetQuota{Bucket: twofold.BucketName(pick(d, "one", "two")), Limit: int64(d.rnd.IntN(3)) * int64(d.rnd.IntN(300))}
		b := d.m.buckets[c.Bucket]
		want := good
		switch {
		case b == nil:
			want = bad(errs.NoBucket)
		case !d.counted:
			want = bad(errs.Busy)
		default:
			b.limit = c.Limit
		}
		if res := d.do(metadata.OpSetQuota, c); (outcome{res.Failed, res.Kind}) != want {
			d.t.Fatalf("step %d: %+v: %+v %s, want %+v", d.seq, c, res, res.Msg, want)
		}
	case 3:
		d.reserveStep()
	}
	d.compare()
}

// reserveStep: a reserve is what was asked for, or more, but never beyond the quota.
func (d *duel) reserveStep() {
	n := d.node(func(n *mnode) bool { return n.typ == metadata.TypeFile })
	if n == nil {
		return
	}
	c := metadata.Reserve{Ino: n.ino, Size: int64(d.rnd.IntN(120)) * int64(d.rnd.IntN(2)), Slack: int64(d.rnd.IntN(100))}
	there := d.m.buckets["one"] == n.bucket || d.m.buckets["two"] == n.bucket
	before, was := d.m.counts(), n.reserve
	res := d.do(metadata.OpReserve, c)
	switch {
	case res.Failed && res.Kind == errs.Quota && there && n.bucket.limit > 0:
		n.reserve = max(was, c.Size)
		if s := d.m.counts()[n.bucket]; s.used+s.reserved <= n.bucket.limit {
			d.t.Fatalf("step %d: %+v is refused: there would be %+v of %d", d.seq, c, s, n.bucket.limit)
		}
		n.reserve = was
	case res.Failed:
		d.t.Fatalf("step %d: %+v: %v %s", d.seq, c, res.Kind, res.Msg)
	case c.Size == 0 || !there || n.bucket.limit == 0:
		if n.reserve = 0; int64(res.ID) != maxFileLen {
			d.t.Fatalf("step %d: %+v: %d", d.seq, c, res.ID)
		}
	default:
		n.reserve = int64(res.ID)
		if n.reserve < c.Size || n.reserve > max(was, c.Size+c.Slack) {
			d.t.Fatalf("step %d: %+v: %d, of %d", d.seq, c, n.reserve, was)
		}
		d.within(before)
	}
}

// TestModelUsage: counts are exact whenever counting began and however far it is, and
// quotas refuse what they should and nothing else.
func TestModelUsage(t *testing.T) {
	seeds, steps := 9, 250
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := newDuel(t, 1000+seed)
			for range 40 * (seed % 3) { // there is something already, or not
				d.step()
			}
			d.usage = true
			for range steps {
				d.step()
				if d.rnd.IntN(50) == 0 {
					d.reopen()
				}
			}
			d.replay()
		})
	}
}

// TestUsageRules: what counts, and what a quota does not refuse.
func TestUsageRules(t *testing.T) {
	r := newRig(t)
	b := r.bucket("bucket")
	r.put(b, "old", "12345") // before anything is counted
	r.ok(metadata.OpCountUsage, metadata.CountUsage{})
	for r.ok(metadata.OpCountUsage, metadata.CountUsage{}).More {
	}
	usage := func() (u metadata.Usage) {
		r.view(func(v metadata.View) {
			var counted bool
			var err error
			if u, counted, err = v.Usage(b.ID); err != nil || !counted {
				t.Fatal(counted, err)
			}
		})
		return u
	}
	want := func(used, reserved int64) {
		t.Helper()
		r.check()
		if u := usage(); u.Used != used || u.Reserved != reserved {
			t.Fatalf("%+v, want %d used, %d reserved", u, used, reserved)
		}
	}
	refused := func(op metadata.Op, body any) {
		t.Helper()
		if res := r.do(op, body); !res.Failed || res.Kind != errs.Quota {
			t.Fatalf("%T: %+v", body, res)
		}
	}
	want(5, 0)
	r.ok(metadata.OpSetQuota, metadata.SetQuota{Bucket: "bucket", Limit: 20})
	file := r.put(b, "file", "1234567890")
	want(15, 0)
	// A link is the same file, and what replaces something takes its place.
	r.ok(metadata.OpLink, metadata.Link{Ino: file.Ino, Parent: b.Root, Name: metadata.Name{Comp: "link"}})
	r.put(b, "old", "1234567890")
	want(20, 0)
	size := int64(11)
	refused(metadata.OpSetAttr, metadata.SetAttr{Ino: file.Ino, Size: &size})
	refused(metadata.OpWrite, metadata.Write{Ino: file.Ino, Size: 11})
	refused(metadata.OpReserve, metadata.Reserve{Ino: file.Ino, Size: 11})
	refused(metadata.OpCreate, metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "l"}, Type: metadata.TypeSymlink, Target: "x"})
	want(20, 0)
	// Over what is there, and with nothing in it, there is always room.
	r.ok(metadata.OpWrite, metadata.Write{Ino: file.Ino, Size: 10, Extents: []metadata.Extent{{Off: 5, Len: 5, Data: []byte("abcde")}}})
	r.put(b, "empty", "")
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "old"})
	want(10, 0)
	// A reserve is kept for its file.
	if res := r.ok(metadata.OpReserve, metadata.Reserve{Ino: file.Ino, Size: 16, Slack: 100}); res.ID != 17 {
		t.Fatalf("may grow to %d", res.ID)
	}
	want(10, 7)
	refused(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: "k", Content: metadata.Content{Size: 4}})
	r.ok(metadata.OpWrite, metadata.Write{Ino: file.Ino, Size: 16})
	want(16, 1)
	// With its last name it stops to count, but for its reserve; written to it counts.
	for _, n := range []string{"file", "link"} {
		r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: n}})
	}
	want(0, 17)
	r.ok(metadata.OpWrite, metadata.Write{Ino: file.Ino, Size: 17})
	want(17, 0)
	r.ok(metadata.OpReserve, metadata.Reserve{Ino: file.Ino})
	r.ok(metadata.OpFreeInode, metadata.FreeInode{Ino: file.Ino})
	want(0, 0)
	// Parts count, and become the object without being counted twice.
	up := twofold.UploadID{7}
	r.ok(metadata.OpCreateUpload, metadata.CreateUpload{Upload: metadata.Upload{ID: up, Bucket: b.ID, Key: "big"}})
	part := func(n int, size int64) metadata.PutPart {
		return metadata.PutPart{Upload: up, Part: metadata.Part{Number: n, Size: size, ETag: "e"}}
	}
	r.ok(metadata.OpPutPart, part(1, 9))
	r.ok(metadata.OpPutPart, part(1, 12)) // instead
	r.ok(metadata.OpPutPart, part(2, 8))
	refused(metadata.OpPutPart, part(3, 1))
	want(20, 0)
	r.ok(metadata.OpCompleteUpload, metadata.CompleteUpload{Upload: up, Parts: []metadata.PartRef{{Number: 2, ETag: "e"}}})
	want(8, 0)
	// A quota that is less than what is there takes nothing away, and lets nothing in.
	r.ok(metadata.OpSetQuota, metadata.SetQuota{Bucket: "bucket", Limit: 1})
	want(8, 0)
	refused(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: "k", Content: metadata.Content{Size: 1}})
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "big"})
	r.ok(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: "empty"})
	r.ok(metadata.OpDeleteBucket, metadata.DeleteBucket{Name: "bucket"})
	r.check()
}
