package repair

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twofold"
	"twofold/engine"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/engine/internal/memdrive"
	"twofold/internal/errs"
)

// rig is an engine over one set of drives in memory, with its healer.
type rig struct {
	t      testing.TB
	e      *engine.Engine
	h      *Healer
	drives []*memdrive.Drive
	slots  []*drive.Slot
	nextID uint64

	mu       sync.Mutex
	unwanted map[twofold.BlobID]bool
	onWanted func(twofold.BlobID)
}

func newRig(t testing.TB, n, parity int, tune ...func(*Options)) *rig {
	r := &rig{t: t, unwanted: make(map[twofold.BlobID]bool)}
	set := engine.SetConfig{Parity: parity}
	for i := range n {
		d := memdrive.New(fmt.Sprintf("drive%d", i+1))
		r.drives = append(r.drives, d)
		r.slots = append(r.slots, drive.NewSlot(set.ID, i, d))
	}
	set.Slots = r.slots
	var err error
	r.e, err = engine.Open(engine.Options{Cluster: twofold.NewUUID(), Sets: []engine.SetConfig{set}})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Engine: r.e, Wanted: r.wanted, Cycle: -1}
	for _, f := range tune {
		f(&o)
	}
	if r.h, err = New(o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) wanted(_ context.Context, b twofold.BlobID) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.onWanted != nil {
		r.onWanted(b)
	}
	return !r.unwanted[b], nil
}

func (r *rig) write(p []byte) twofold.Blob {
	r.t.Helper()
	r.nextID++
	b, err := r.e.Write(context.Background(),
		engine.WriteOptions{ID: twofold.MakeBlobID(3, r.nextID), Parity: -1, Purpose: []byte("test")}, bytes.NewReader(p))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// whole requires that every drive has a good shard of the blob and that any of them
// may be missed.
func (r *rig) whole(b twofold.Blob, want []byte) {
	r.t.Helper()
	v, err := r.h.verify(context.Background(), b.Set, b.ID)
	if err != nil || v.bad|v.wrong != 0 || v.missing != 0 || v.mismatched != 0 {
		r.t.Fatalf("not whole: %+v, %v", v, err)
	}
	seen := erasure.Set(0)
	for _, d := range r.drives {
		i, err := d.Stat(context.Background(), b.ID)
		if err != nil {
			r.t.Fatal(err)
		}
		if string(i.Trailer.Purpose) != "test" || i.Trailer.Size != b.Size || i.Header.Created == 0 {
			r.t.Fatalf("%+v", i)
		}
		seen = seen.With(int(i.Header.Index))
	}
	if seen != erasure.Span(0, len(r.drives)) {
		r.t.Fatalf("shards %b", seen)
	}
	r.reads(b, want)
}

func (r *rig) reads(b twofold.Blob, want []byte) {
	r.t.Helper()
	p := make([]byte, b.Size)
	if n, err := r.e.ReadAt(context.Background(), b, p, 0); err != nil || !bytes.Equal(p[:n], want) {
		r.t.Fatalf("read: %d, %v", n, err)
	}
}

func (r *rig) eventually(cond func() bool, what string) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatal(what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// run runs the healer until the test's end.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.h.Run(ctx) }()
	return func() { cancel(); <-done }
}

func content(n int, seed uint64) []byte {
	p := make([]byte, n)
	s := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	s.Read(p)
	return p
}

// damage is one way for a shard to be bad.
type damage struct {
	name string
	do   func(d *memdrive.Drive, b twofold.BlobID, stripes int)
}

func damages() []damage {
	return []damage{
		{"none", func(*memdrive.Drive, twofold.BlobID, int) {}},
		{"lost", func(d *memdrive.Drive, b twofold.BlobID, _ int) { d.Lose(b) }},
		{"header", func(d *memdrive.Drive, b twofold.BlobID, _ int) { d.Damage(b, -1) }},
		{"first block", func(d *memdrive.Drive, b twofold.BlobID, _ int) { d.Damage(b, 0) }},
		{"last block", func(d *memdrive.Drive, b twofold.BlobID, n int) { d.Damage(b, n-1) }},
		{"outdated", func(d *memdrive.Drive, b twofold.BlobID, _ int) {
			d.Rewrite(b, func(i *drive.ShardInfo) { i.Trailer.Size += 7 })
		}},
		{"foreign", func(d *memdrive.Drive, b twofold.BlobID, _ int) {
			d.Rewrite(b, func(i *drive.ShardInfo) { i.Header.Cluster = twofold.NewUUID() })
		}},
		{"other coding", func(d *memdrive.Drive, b twofold.BlobID, _ int) {
			d.Rewrite(b, func(i *drive.ShardInfo) { i.Header.Data, i.Header.Parity = i.Header.Data+1, i.Header.Parity-1 })
		}},
	}
}

// TestScrubRepairsEveryShard: any one shard, damaged in any way, is found by a scrub
// without a read and made whole.
func TestScrubRepairsEveryShard(t *testing.T) {
	for _, size := range []int{1, 5000, 2<<20 + 99} {
		for _, dmg := range damages() {
			for i := range 4 {
				r := newRig(t, 4, 2)
				want := content(size, 1)
				b := r.write(want)
				dmg.do(r.drives[i], b.ID, (size+erasure.StripeSize-1)/erasure.StripeSize)
				s, err := r.h.Scrub(context.Background())
				bad := int64(1)
				if dmg.name == "none" {
					bad = 0
				}
				if err != nil || s.Bad != bad || s.Repaired != bad || s.Unrecoverable != 0 || s.Cycles != 1 || s.Blobs != 1 {
					t.Errorf("%s on drive %d: %+v, %v", dmg.name, i, s, err)
				}
				r.whole(b, want)
			}
		}
	}
}

// TestScrubFindsForgedBlocks: a block that passes its hash and is wrong is told from
// the others by the code.
func TestScrubFindsForgedBlocks(t *testing.T) {
	want := content(1<<20+500, 1)
	for i := range 4 {
		r := newRig(t, 4, 2)
		b := r.write(want)
		r.drives[i].Forge(b.ID, 1)
		if s, err := r.h.Scrub(context.Background()); err != nil || s.Repaired != 1 || s.Mismatched != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		r.whole(b, want)
	}
	// With one parity shard it can be seen, and not told which.
	r := newRig(t, 3, 1)
	b := r.write(want)
	r.drives[1].Forge(b.ID, 0)
	if s, err := r.h.Scrub(context.Background()); err != nil || s.Mismatched != 1 || s.Repaired != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestHealWhatIsLeft: any mix of damage that leaves k good blocks of each stripe is
// healed; what leaves fewer is not touched.
func TestHealWhatIsLeft(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(rt, "n")
		r := newRig(t, n, rapid.IntRange(1, n/2).Draw(rt, "parity"))
		size := rapid.SampledFrom([]int{1, 1000, 1<<20 + 1, 3 << 20}).Draw(rt, "size")
		want := content(size, 2)
		b := r.write(want)
		stripes := (size + erasure.StripeSize - 1) / erasure.StripeSize
		opens := n
		other := make(map[string]int) // shards that agree with each other on another coding
		good := make([]int, stripes)
		for _, d := range r.drives {
			switch dmg := rapid.SampledFrom(damages()).Draw(rt, "damage"); dmg.name {
			case "none":
			case "first block":
				good[0]--
				dmg.do(d, b.ID, stripes)
			case "last block":
				good[stripes-1]--
				dmg.do(d, b.ID, stripes)
			default:
				opens--
				other[dmg.name]++
				dmg.do(d, b.ID, stripes)
			}
		}
		if other["outdated"] >= int(b.Data) || other["other coding"] > int(b.Data) {
			return // which of the two is the blob can't be told
		}
		ok := opens >= int(b.Data)
		for _, g := range good {
			ok = ok && opens+g >= int(b.Data)
		}
		s, err := r.h.Scrub(context.Background())
		if err != nil || !ok && s.Blobs == 1 && s.Repaired == 0 && s.Unrecoverable != 1 {
			rt.Fatal(s, err)
		}
		// A block of nothing but padding is not needed: some are healed all the same.
		if ok || s.Repaired != 0 {
			r.whole(b, want)
		}
	})
}

// TestTwoCodingsAreLeftAlone: where it can't be told which shards are the blob's, none
// is written over.
func TestTwoCodingsAreLeftAlone(t *testing.T) {
	r := newRig(t, 4, 2)
	want := content(1000, 1)
	b := r.write(want)
	for _, d := range r.drives[:2] {
		d.Rewrite(b.ID, func(i *drive.ShardInfo) { i.Trailer.Size-- })
	}
	if s, err := r.h.Scrub(context.Background()); err != nil || s.Repaired != 0 || s.Unrecoverable != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	r.reads(b, want)
}

// TestReadQueuesRepair: what a read or a write leaves damaged is healed without
// anybody asking.
func TestReadQueuesRepair(t *testing.T) { synctest.Test(t, testReadQueuesRepair) }

func testReadQueuesRepair(t *testing.T) {
	r := newRig(t, 4, 2)
	defer r.run()()
	want := content(3<<20, 1)
	b := r.write(want)
	for i, d := range r.drives {
		if engine.Placement(b.ID, 4)[0] != i && engine.Placement(b.ID, 4)[1] != i {
			continue // a healthy read does not touch parity
		}
		before := r.h.Stats().Healed
		if i%2 == 0 {
			d.Damage(b.ID, 1)
		} else {
			d.Lose(b.ID)
		}
		r.e.Forget(b.ID)
		br, err := r.e.Open(context.Background(), b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := br.ReadAt(context.Background(), make([]byte, len(want)), 0); err != nil {
			t.Fatal(err)
		}
		br.Close()
		r.eventually(func() bool { return r.h.Stats().Healed > before }, "not healed")
	}
	r.whole(b, want)

	// A drive that fails one write.
	r.drives[2].SetFault(func(op memdrive.Op, _ twofold.BlobID) error {
		if op == memdrive.Commit {
			return errs.Newf("test", errs.Other, "EIO")
		}
		return nil
	})
	b = r.write(want)
	time.Sleep(3 * time.Second)
	r.drives[2].SetFault(nil)
	r.eventually(func() bool { _, err := r.drives[2].Stat(context.Background(), b.ID); return err == nil }, "not healed")
	r.whole(b, want)
}

// TestRefillOfAReplacedDrive: an empty drive in a slot, and one that was away, get
// all that they lack, and are Healing until then.
func TestRefillOfAReplacedDrive(t *testing.T) { synctest.Test(t, testRefill) }

func testRefill(t *testing.T) {
	r := newRig(t, 4, 2)
	r.h.chunk = 7
	var blobs []twofold.Blob
	want := content(100000, 1)
	for range 50 {
		blobs = append(blobs, r.write(want))
	}
	defer r.run()()
	time.Sleep(2 * time.Second)

	r.drives[1].SetState(drive.Offline) // away for a while, and then another one too
	time.Sleep(2 * time.Second)
	for range 20 {
		blobs = append(blobs, r.write(want))
	}
	r.drives[1].SetState(drive.Online)
	r.eventually(func() bool { return len(r.drives[1].Blobs()) == 70 && r.drives[1].State() == drive.Online }, "not refilled")

	fresh := memdrive.New("fresh")
	r.drives[3] = fresh
	r.slots[3].Put(fresh)
	marked := false
	r.eventually(func() bool {
		marked = marked || fresh.Healing()
		return len(fresh.Blobs()) == 70 && fresh.State() == drive.Online
	}, "not refilled")
	for _, b := range blobs {
		r.whole(b, want)
	}
}

// TestRefillIsTriedAgain: a drive stays Healing while shards fail to be written.
func TestRefillIsTriedAgain(t *testing.T) { synctest.Test(t, testRefillAgain) }

func testRefillAgain(t *testing.T) {
	r := newRig(t, 4, 2)
	want := content(1000, 1)
	for range 10 {
		r.write(want)
	}
	fresh := memdrive.New("fresh")
	failing := true
	var mu sync.Mutex
	fresh.SetFault(func(op memdrive.Op, b twofold.BlobID) error {
		mu.Lock()
		defer mu.Unlock()
		if failing && op == memdrive.Commit && b[15]%2 == 0 {
			return errs.Newf("test", errs.Other, "EIO")
		}
		return nil
	})
	r.drives[0] = fresh
	r.slots[0].Put(fresh)
	done := make(chan error, 1)
	go func() { done <- r.h.Refill(context.Background(), r.slots[0]) }()
	time.Sleep(10 * time.Second)
	if fresh.State() != drive.Healing || len(fresh.Blobs()) != 5 {
		t.Fatal(fresh.State(), len(fresh.Blobs()))
	}
	if p := r.h.Progress(); len(p) != 1 || p[0].At != erasure.Set(0).With(0) || p[0].Seen != 10 || p[0].Lacking != 5 || p[0].Done != 5 || time.Since(p[0].Since) != 10*time.Second {
		t.Errorf("%+v", p)
	}
	mu.Lock()
	failing = false
	mu.Unlock()
	if err := <-done; err != nil || fresh.State() != drive.Online || len(fresh.Blobs()) != 10 {
		t.Fatal(err, fresh.State(), len(fresh.Blobs()))
	}
	if p := r.h.Progress(); len(p) != 0 {
		t.Errorf("it has ended: %+v", p)
	}
}

// TestGarbageIsNotResurrected: a blob nobody wants is left alone, and one that is
// deleted while it is healed has no shard afterwards.
func TestGarbageIsNotResurrected(t *testing.T) {
	r := newRig(t, 4, 2)
	ctx := context.Background()
	b := r.write(content(100, 1))
	r.drives[0].Lose(b.ID)
	r.unwanted[b.ID] = true
	if res, err := r.h.Heal(ctx, engine.Damage{Blob: b.ID}); err != nil || !res.Unwanted || len(r.drives[0].Blobs()) != 0 {
		t.Fatal(res, err)
	}
	delete(r.unwanted, b.ID)

	// Unwanted when asked the second time.
	asked := 0
	r.onWanted = func(id twofold.BlobID) {
		if asked++; asked == 2 {
			r.unwanted[id] = true
		}
	}
	if res, err := r.h.Heal(ctx, engine.Damage{Blob: b.ID}); err != nil || !res.Unwanted || len(r.drives[0].Blobs()) != 0 {
		t.Fatal(res, err)
	}

	// Deleted while it is healed, by this process, and Wanted does not know.
	r.onWanted = nil
	b = r.write(content(100, 2))
	r.drives[0].Lose(b.ID)
	r.drives[0].SetFault(func(op memdrive.Op, id twofold.BlobID) error {
		if op == memdrive.Commit {
			r.drives[0].SetFault(nil)
			return r.e.Delete(ctx, b)
		}
		return nil
	})
	if res, err := r.h.Heal(ctx, engine.Damage{Blob: b.ID}); err != nil || !res.Unwanted {
		t.Fatal(res, err)
	}
	for _, d := range r.drives {
		if _, err := d.Stat(ctx, b.ID); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s has a shard: %v", d, err)
		}
	}
}

// TestHealLeavesAWriteAlone: a blob that is being written is not looked at.
func TestHealLeavesAWriteAlone(t *testing.T) {
	r := newRig(t, 4, 2)
	id := twofold.MakeBlobID(9, 9)
	_, err := r.e.Write(context.Background(), engine.WriteOptions{ID: id, Parity: -1}, readerFunc(func([]byte) (int, error) {
		res, err := r.h.Heal(context.Background(), engine.Damage{Blob: id})
		if err != nil || res != (Result{}) {
			t.Error(res, err)
		}
		return 0, fmt.Errorf("stop")
	}))
	if err == nil || err.Error() != "stop" {
		t.Error(err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestHealFailingHalfWay: a target that fails at any step loses nothing it had.
func TestHealFailingHalfWay(t *testing.T) {
	for _, op := range []memdrive.Op{memdrive.Create, memdrive.Block, memdrive.Commit} {
		r := newRig(t, 4, 1)
		want := content(2<<20, 1)
		b := r.write(want)
		r.drives[0].Damage(b.ID, 1) // its block 0 is still good
		r.drives[0].SetFault(func(o memdrive.Op, _ twofold.BlobID) error {
			if o == op {
				return errs.Newf("test", errs.Other, "EIO")
			}
			return nil
		})
		s, err := r.h.Scrub(context.Background())
		if err != nil || s.Bad != 1 || s.Repaired != 0 || r.h.Stats().Queued != 1 {
			t.Errorf("%s: %+v, %v", op, s, err)
		}
		if r.drives[0].InUse() != 0 {
			t.Errorf("%s: a shard is open", op)
		}
		r.reads(b, want)
		r.drives[0].SetFault(nil)
		if s, err := r.h.Scrub(context.Background()); err != nil || s.Repaired != 1 {
			t.Errorf("%s: %+v, %v", op, s, err)
		}
		r.whole(b, want)
	}
}

// TestQueueThatSpills: what the queue has no room for is found by a walk.
func TestQueueThatSpills(t *testing.T) { synctest.Test(t, testSpill) }

func testSpill(t *testing.T) {
	r := newRig(t, 4, 2, func(o *Options) { o.QueueLen = 4 })
	want := content(1000, 1)
	r.drives[2].SetFault(func(op memdrive.Op, _ twofold.BlobID) error {
		if op == memdrive.Create {
			return errs.Newf("test", errs.Other, "EIO")
		}
		return nil
	})
	for range 30 {
		r.write(want)
	}
	r.drives[2].SetFault(nil)
	if n := r.h.Stats().Queued; n != 4 {
		t.Fatal(n)
	}
	defer r.run()()
	r.eventually(func() bool { return len(r.drives[2].Blobs()) == 30 }, "not healed")
}

// TestPacedScrub: a scrub takes about its cycle, and goes on where it was.
func TestPacedScrub(t *testing.T) { synctest.Test(t, testPaced) }

func testPaced(t *testing.T) {
	var mu sync.Mutex
	var places []ScrubPosition
	r := newRig(t, 4, 2, func(o *Options) {
		o.Cycle, o.Poll = 100*time.Hour, time.Hour
		o.Progress = func(p ScrubPosition) { mu.Lock(); places = append(places, p); mu.Unlock() }
	})
	r.h.chunk = 64
	var last twofold.Blob
	for range 600 {
		last = r.write(content(1<<20, 1))
	}
	for _, d := range r.drives {
		d.SetUsage(drive.Usage{Total: 1 << 40, Free: 1<<40 - 300<<20})
	}
	stop := r.run()
	start := time.Now()
	r.eventuallyWithin(200*time.Hour, func() bool { return r.h.Stats().Scrub.Cycles == 1 })
	if took := time.Since(start); took < 90*time.Hour || took > 110*time.Hour {
		t.Errorf("a cycle of 100 h took %v", took)
	}
	stop()
	if len(places) != 3 || places[2] != (ScrubPosition{}) {
		t.Fatal(places)
	}
	r2 := r.h
	r2.o.Start = ScrubPosition{After: last.ID}
	blobs := r2.Stats().Scrub.Blobs
	stop = r.run()
	r.eventuallyWithin(time.Hour, func() bool { return r2.Stats().Scrub.Cycles == 2 })
	stop()
	if r2.Stats().Scrub.Blobs != blobs {
		t.Error("it began anew")
	}
}

func (r *rig) eventuallyWithin(d time.Duration, cond func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(d)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatal("not within ", d)
		}
		time.Sleep(time.Minute)
	}
}
