package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/erasure"
	"twofold/engine/internal/memdrive"
	"twofold/engine/placement"
	"twofold/internal/errs"
)

// bubble hides from rapid that a test runs in a synctest bubble, of which it would ask
// the deadline. Time in a bubble passes only while nothing else can: a drive that hangs
// for seconds costs none.
type bubble struct{ rapid.TB }

// TestWriteQuorumTable: for every set size and number of drives offline, a write
// succeeds just when the rule says so, with the parity the rule says, and can be
// read back with the drives that are left.
func TestWriteQuorumTable(t *testing.T) {
	want := content(5000, 1)
	for n := 1; n <= 16; n++ {
		parity := placement.DefaultParity(n)
		for off := 0; off <= n; off++ {
			r := newRig(t, n, parity)
			for _, d := range r.drives[:off] {
				d.SetState(drive.Offline)
			}
			c := placement.CodingFor(n, parity, off)
			ok := n-off >= c.WriteQuorum()
			if h := r.e.Health()[0]; h.CanWrite != ok {
				t.Errorf("n=%d off=%d: CanWrite = %v", n, off, h.CanWrite)
			}
			b, err := r.write(want)
			if !ok {
				if !errs.Is(err, errs.WriteQuorum) || r.leftovers() != 0 {
					t.Errorf("n=%d off=%d: %v, %d shards left", n, off, err, r.leftovers())
				}
				continue
			}
			if err != nil || int(b.Parity) != c.Parity || int(b.Data) != c.Data {
				t.Fatalf("n=%d off=%d: %+v, %v; want %+v", n, off, b, err, c)
			}
			if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
				t.Errorf("n=%d off=%d: %v", n, off, err)
			}
			if reported := r.damage.Load() > 0; reported != (off > 0) {
				t.Errorf("n=%d off=%d: reported = %v", n, off, reported)
			}
		}
	}
}

// TestReadQuorumTable: whichever drives are lost after a write, reads go on down to
// as many as there are data shards, and then say why not.
func TestReadQuorumTable(t *testing.T) {
	want := content(1<<20+5000, 1)
	for n := 1; n <= 16; n++ {
		r := newRig(t, n, placement.DefaultParity(n))
		b := r.mustWrite(want)
		for off := 0; off <= n; off++ {
			if off > 0 {
				r.drives[(off*5)%n].SetState(drive.Offline)
				for i := 0; r.online() > n-off; i++ {
					r.drives[i].SetState(drive.Offline)
				}
			}
			r.e.Close()
			got, err := r.read(b)
			if n-off >= int(b.Data) {
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("n=%d off=%d: %v", n, off, err)
				}
			} else if !errs.Is(err, errs.ReadQuorum) {
				t.Errorf("n=%d off=%d: %v", n, off, err)
			}
		}
	}
}

func (r *rig) online() int {
	n := 0
	for _, d := range r.drives {
		if d.State() == drive.Online {
			n++
		}
	}
	return n
}

// TestReadsWithFaults: exact bytes from what is left, or errs.ReadQuorum.
func TestReadsWithFaults(t *testing.T) { synctest.Test(t, testReadsWithFaults) }

func testReadsWithFaults(t *testing.T) {
	rapid.Check(bubble{t}, func(rt *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(rt, "n")
		parity := rapid.IntRange(0, n/2).Draw(rt, "parity")
		size := rapid.OneOf(rapid.IntRange(0, 3000), rapid.IntRange(1<<20-2, 1<<20+2), rapid.IntRange(0, 3<<20)).Draw(rt, "size")
		r := newRig(t, n, parity, quick)
		want := content(size, rapid.Uint64Range(0, 1000).Draw(rt, "seed"))
		b := r.mustWrite(want)
		release := make(chan struct{})
		defer close(release)
		stripes := (size + erasure.StripeSize - 1) / erasure.StripeSize
		good := make([]int, stripes) // good blocks of each stripe
		opens := 0
		for i := range good {
			good[i] = n
		}
		for _, d := range r.drives {
			fault := rapid.SampledFrom([]string{"", "", "", "lost", "header", "block", "hang", "hangopen", "error", "offline", "foreign"}).Draw(rt, "fault")
			all := true
			switch fault {
			case "lost":
				d.Lose(b.ID)
			case "header":
				d.Damage(b.ID, -1)
			case "block":
				all = false
				if stripes > 0 {
					i := rapid.IntRange(0, stripes-1).Draw(rt, "block")
					d.Damage(b.ID, i)
					good[i]--
				}
			case "hang":
				d.SetFault(hang(release, memdrive.Read))
				opens++
			case "hangopen":
				d.SetFault(hang(release, memdrive.Open))
			case "error":
				d.SetFault(func(op memdrive.Op, _ twofold.BlobID) error {
					if op == memdrive.Read {
						return errs.Newf("test", errs.Unavailable, "EIO")
					}
					return nil
				})
				opens++
			case "offline":
				d.SetState(drive.Offline)
			case "foreign":
				d.Rewrite(b.ID, func(i *drive.ShardInfo) { i.Trailer.Size++ })
			default:
				all = false
			}
			if !all {
				opens++
				continue
			}
			for i := range good {
				good[i]--
			}
		}
		ok := opens >= int(b.Data)
		for _, g := range good {
			ok = ok && g >= int(b.Data)
		}
		start := time.Now()
		got, err := r.read(b)
		if took := time.Since(start); took > 3*time.Second {
			rt.Errorf("took %v", took)
		}
		// A block of nothing but padding is not needed: some blobs read all the same.
		switch {
		case err == nil && !bytes.Equal(got, want):
			rt.Fatal("wrong bytes")
		case err != nil && (ok || !errs.Is(err, errs.ReadQuorum)):
			rt.Fatalf("readable is %v, but %v", ok, err)
		}
	})
}

// TestWriteFaults: a write with drives that fail at any step either succeeds, and is
// then there in full on a write quorum, or leaves nothing.
func TestWriteFaults(t *testing.T) { synctest.Test(t, testWriteFaults) }

func testWriteFaults(t *testing.T) {
	boom := errs.Newf("test", errs.Other, "EIO")
	rapid.Check(bubble{t}, func(rt *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(rt, "n")
		r := newRig(t, n, placement.DefaultParity(n), quick)
		release := make(chan struct{})
		failing := 0
		for _, d := range r.drives {
			op := rapid.SampledFrom([]memdrive.Op{"", "", "", memdrive.Create, memdrive.Block, memdrive.Commit}).Draw(rt, "op")
			if op == "" {
				continue
			}
			failing++
			hangs := rapid.Bool().Draw(rt, "hangs")
			skip := int64(rapid.IntRange(0, 2).Draw(rt, "skip"))
			if op != memdrive.Block {
				skip = 0
			}
			var calls atomic.Int64
			d.SetFault(func(o memdrive.Op, _ twofold.BlobID) error {
				if o != op || calls.Add(1) <= skip {
					return nil
				}
				if hangs {
					<-release
					return nil
				}
				return boom
			})
		}
		want := content(rapid.SampledFrom([]int{3<<20 + 1, 9 << 20}).Draw(rt, "size"), 1)
		c := placement.CodingFor(n, placement.DefaultParity(n), 0)
		ok := n-failing >= c.WriteQuorum()
		start := time.Now()
		b, err := r.write(want)
		if took := time.Since(start); took > 3*time.Second {
			rt.Errorf("took %v", took)
		}
		close(release)
		for _, d := range r.drives {
			d.SetFault(nil)
		}
		r.idle()
		if !ok {
			if !errs.Is(err, errs.WriteQuorum) {
				rt.Fatalf("no quorum, but %v", err)
			}
			r.eventually(func() bool { return r.leftovers() == 0 }, "shards of a failed write stay")
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if r.leftovers() < c.WriteQuorum() {
			rt.Fatalf("%d shards of %d", r.leftovers(), n)
		}
		if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
			rt.Fatal(err)
		}
		if reported := r.damage.Load() > 0; reported != (failing > 0) {
			rt.Errorf("%d drives failed, reported: %v", failing, reported)
		}
	})
}

func (r *rig) eventually(cond func() bool, what string) {
	r.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			r.t.Fatal(what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestWriteFailureKinds: why it failed, where space or permission would have made it.
func TestWriteFailureKinds(t *testing.T) {
	fail := func(k errs.Kind) memdrive.Fault {
		return func(op memdrive.Op, _ twofold.BlobID) error {
			if op == memdrive.Block {
				return errs.Newf("test", k, "no")
			}
			return nil
		}
	}
	for _, tc := range []struct {
		name   string
		faults []errs.Kind // of 4 drives, 2+2, quorum 3
		full   int         // drives in state Full, behind those
		want   errs.Kind
	}{
		{"full", []errs.Kind{errs.NoSpace, errs.NoSpace}, 0, errs.NoSpace},
		{"read-only", []errs.Kind{errs.ReadOnly, errs.ReadOnly, errs.ReadOnly, errs.ReadOnly}, 0, errs.ReadOnly},
		{"both", []errs.Kind{errs.ReadOnly, errs.NoSpace}, 0, errs.NoSpace},
		{"broken", []errs.Kind{errs.Other, errs.Unavailable}, 0, errs.WriteQuorum},
		{"too many broken", []errs.Kind{errs.Other, errs.Unavailable, errs.Other}, 0, errs.WriteQuorum},
		{"known to be full", nil, 2, errs.NoSpace},
		{"one full and one fills up", []errs.Kind{errs.NoSpace}, 1, errs.NoSpace},
	} {
		r := newRig(t, 4, 2)
		for i, k := range tc.faults {
			r.drives[i].SetFault(fail(k))
		}
		for i := range tc.full {
			r.drives[3-i].SetState(drive.Full)
		}
		_, err := r.write(content(100, 1))
		if !errs.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if r.leftovers() != 0 {
			t.Errorf("%s: shards are left", tc.name)
		}
	}
}

// TestHungDriveCostsLittle: the first write waits for it once; later ones, while the
// call has not come back, do without the drive; then it is used again.
func TestHungDriveCostsLittle(t *testing.T) { synctest.Test(t, testHungDriveCostsLittle) }

func testHungDriveCostsLittle(t *testing.T) {
	r := newRig(t, 4, 2, func(o *Options) { o.Grace = 50 * time.Millisecond })
	release := make(chan struct{})
	hung := r.drives[1]
	hung.SetFault(hang(release, memdrive.Block))
	start := time.Now()
	want := content(20<<20, 1)
	b := r.mustWrite(want)
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("the first write took %v", took)
	}
	creates := hung.Count(memdrive.Create)
	start = time.Now()
	for range 20 {
		r.mustWrite(want[:1000])
	}
	if took := time.Since(start); took > 0 {
		t.Errorf("20 more writes took %v", took)
	}
	if hung.Count(memdrive.Create) != creates {
		t.Error("the hung drive was asked again")
	}
	if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
		t.Error(err)
	}
	close(release)
	hung.SetFault(nil)
	r.e.Close()
	r.idle()
	r.eventually(func() bool {
		r.mustWrite(want[:10])
		return hung.Count(memdrive.Create) > creates
	}, "the drive is not used again")
}

// TestSlowReadsAreHedged: a drive that hangs in reads costs one hedge delay, and no
// later read is sent to it first.
func TestSlowReadsAreHedged(t *testing.T) { synctest.Test(t, testSlowReadsAreHedged) }

func testSlowReadsAreHedged(t *testing.T) {
	r := newRig(t, 4, 2, func(o *Options) { o.HedgeDelay = 20 * time.Millisecond })
	want := content(10<<20, 1)
	b := r.mustWrite(want)
	release := make(chan struct{})
	defer close(release)
	hung := r.drives[Placement(b.ID, 4)[0]]
	hung.SetFault(hang(release, memdrive.Read))
	start := time.Now()
	if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if n := hung.Count(memdrive.Read); n > 4 {
		t.Errorf("the hung drive was asked %d times", n)
	}
	if r.damage.Load() != 0 {
		t.Error("slow is not damaged")
	}
}

func TestCanceled(t *testing.T) { synctest.Test(t, testCanceled) }

func testCanceled(t *testing.T) {
	r := newRig(t, 4, 2)
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	for _, d := range r.drives {
		d.SetFault(hang(release, memdrive.Commit))
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	go func() { time.Sleep(40 * time.Millisecond); close(release) }()
	_, err := r.e.Write(ctx, WriteOptions{ID: r.id(), Parity: -1}, bytes.NewReader(content(100, 1)))
	if !errs.Is(err, errs.Canceled) {
		t.Error(err)
	}
	r.idle()
	r.eventually(func() bool { return r.leftovers() == 0 }, "shards of a canceled write stay")
	b := r.mustWrite(content(100, 1))
	if _, err := r.e.Open(ctx, b); !errs.Is(err, errs.Canceled) {
		t.Error(err)
	}
}

// TestMisplacedShards: drives that were swapped between slots are read all the same.
func TestMisplacedShards(t *testing.T) {
	r := newRig(t, 5, 2)
	want := content(100000, 1)
	b := r.mustWrite(want)
	for i, s := range r.slots {
		s.Put(r.drives[(i+2)%5])
	}
	if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
	r.drives[0].SetState(drive.Offline)
	r.drives[3].SetState(drive.Offline)
	r.e.Close()
	if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
		t.Fatal(err)
	}
}

// TestReopensWhereADriveWasReplaced: an open reader goes on with the drive that is in
// the slot now.
func TestReopensWhereADriveWasReplaced(t *testing.T) {
	r := newRig(t, 2, 0)
	want := content(2000, 1)
	b := r.mustWrite(want)
	br, err := r.e.Open(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	defer br.Close()
	for i, s := range r.slots {
		s.Put(nil)
		p := make([]byte, 2000)
		if _, err := br.ReadAt(context.Background(), p, 0); !errs.Is(err, errs.ReadQuorum) {
			t.Error(err)
		}
		s.Put(r.drives[i])
		if _, err := br.ReadAt(context.Background(), p, 0); err != nil || !bytes.Equal(p, want) {
			t.Error(err)
		}
	}
}

func TestDeleteAndWalk(t *testing.T) {
	r := newRig(t, 4, 2)
	ctx := context.Background()
	var blobs []twofold.Blob
	for i := range 2000 {
		blobs = append(blobs, r.mustWrite(content(10, uint64(i))))
	}
	r.drives[0].Lose(blobs[3].ID)
	walked := func() (ids []twofold.BlobID) {
		err := r.e.WalkBlobs(ctx, func(id twofold.BlobID, sets []twofold.SetID) error {
			if len(sets) != 1 {
				t.Errorf("%s on %v", id, sets)
			}
			ids = append(ids, id)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	ids := walked()
	if len(ids) != len(blobs) {
		t.Fatalf("%d of %d", len(ids), len(blobs))
	}
	for i, id := range ids {
		if id != blobs[i].ID {
			t.Fatal("not in order")
		}
	}
	// A reader that is open keeps what it has.
	br, err := r.e.Open(ctx, blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	r.drives[2].SetState(drive.Offline)
	for _, b := range blobs {
		if err := r.e.Delete(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := br.ReadAt(ctx, make([]byte, 10), 0); n != 10 || err != nil {
		t.Error(n, err)
	}
	br.Close()
	if len(walked()) != 0 {
		t.Error("blobs are left")
	}
	r.drives[2].SetState(drive.Online)
	if len(walked()) != len(blobs) {
		t.Error("garbage of a drive that was away is not found")
	}
	if _, err := r.read(blobs[1]); !errs.Is(err, errs.ReadQuorum) {
		t.Error(err)
	}
	stop := fmt.Errorf("enough")
	if err := r.e.WalkBlobs(ctx, func(twofold.BlobID, []twofold.SetID) error { return stop }); err != stop {
		t.Error(err)
	}
	r.idle()
}

func TestUsageAndHealth(t *testing.T) { synctest.Test(t, testUsageAndHealth) }

func testUsageAndHealth(t *testing.T) {
	r := newRig(t, 4, 2)
	for i, d := range r.drives {
		d.SetUsage(drive.Usage{Total: 1000, Free: uint64(100 * (i + 1))})
	}
	check := func(total, free uint64) {
		t.Helper()
		time.Sleep(spaceAge)
		u := r.e.Usage(context.Background())
		if u.Total != total || u.Free != free || len(u.Pools) != 1 || u.Pools[0].Free != free {
			t.Errorf("%+v", u)
		}
	}
	check(2000, 200)
	r.drives[0].SetState(drive.Offline)
	check(2000, 200) // as it last was
	h := r.e.Health()[0]
	if !h.CanRead || !h.CanWrite || h.States[drive.Offline] != 1 || len(h.Drives) != 4 {
		t.Errorf("%+v", h)
	}
	r.drives[1].SetState(drive.Full)
	if h := r.e.Health()[0]; !h.CanRead || h.CanWrite {
		t.Errorf("%+v", h)
	}
	r.drives[2].SetState(drive.Offline)
	r.drives[3].SetState(drive.Offline)
	if h := r.e.Health()[0]; h.CanRead {
		t.Errorf("%+v", h)
	}
	if s := r.e.ChooseableSets(context.Background()); len(s) != 1 || s[0].Writable {
		t.Errorf("%+v", s)
	}
}

// sink is a drive that keeps nothing.
type sink struct{ memdrive.Drive }

func (s *sink) State() drive.State { return drive.Online }
func (s *sink) Create(context.Context, drive.ShardHeader) (drive.ShardWriter, error) {
	return sinkWriter{}, nil
}

type sinkWriter struct{}

func (sinkWriter) WriteBlock([]byte) error         { return nil }
func (sinkWriter) Commit(drive.ShardTrailer) error { return nil }
func (sinkWriter) Abort() error                    { return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestStreamingMemory: a write of 1 GiB allocates a few stripes.
func TestStreamingMemory(t *testing.T) {
	set := SetConfig{Parity: 2}
	for i := range 4 {
		set.Slots = append(set.Slots, drive.NewSlot(set.ID, i, &sink{}))
	}
	e, err := Open(Options{Sets: []SetConfig{set}})
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const size = 1 << 30
	b, err := e.Write(context.Background(), WriteOptions{ID: twofold.MakeBlobID(1, 1), Parity: -1}, io.LimitReader(zeros{}, size))
	if err != nil || b.Size != size {
		t.Fatal(b, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 && !raceEnabled {
		t.Errorf("allocated %d MiB for 1 GiB", grown>>20)
	}
}
