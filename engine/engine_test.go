package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/internal/memdrive"
	"twofold/internal/errs"
)

// rig is an engine over one set of drives in memory.
type rig struct {
	t      testing.TB
	e      *Engine
	drives []*memdrive.Drive
	slots  []*drive.Slot
	damage atomic.Int64 // reports
	nextID uint64
}

// quick are options with short deadlines.
func quick(o *Options) {
	o.HedgeDelay, o.ReadTimeout = 5*time.Millisecond, 300*time.Millisecond
	o.Grace, o.WriteTimeout = 30*time.Millisecond, 300*time.Millisecond
}

func newRig(t testing.TB, n, parity int, tune ...func(*Options)) *rig {
	r := &rig{t: t}
	set := SetConfig{Parity: parity}
	for i := range n {
		d := memdrive.New(fmt.Sprintf("drive%d", i+1))
		r.drives = append(r.drives, d)
		r.slots = append(r.slots, drive.NewSlot(set.ID, i, d))
	}
	set.Slots = r.slots
	o := Options{Cluster: twofold.NewUUID(), Sets: []SetConfig{set}}
	for _, f := range tune {
		f(&o)
	}
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	e.OnDamage(func(Damage) { r.damage.Add(1) })
	r.e = e
	return r
}

func (r *rig) id() twofold.BlobID {
	r.nextID++
	return twofold.MakeBlobID(7, r.nextID)
}

func (r *rig) write(content []byte) (twofold.Blob, error) {
	return r.e.Write(context.Background(), WriteOptions{ID: r.id(), Parity: -1}, bytes.NewReader(content))
}

func (r *rig) mustWrite(content []byte) twofold.Blob {
	r.t.Helper()
	b, err := r.write(content)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// read reads all of a blob by all three ways and requires that they agree.
func (r *rig) read(b twofold.Blob) ([]byte, error) {
	ctx := context.Background()
	br, err := r.e.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer br.Close()
	var buf bytes.Buffer
	if _, err := br.WriteRange(ctx, &buf, 0, b.Size); err != nil {
		return nil, err
	}
	p := make([]byte, b.Size)
	if n, err := br.ReadAt(ctx, p, 0); err != nil || !bytes.Equal(p[:n], buf.Bytes()) {
		r.t.Fatalf("ReadAt = %d, %v and WriteRange differ", n, err)
	}
	if n, err := r.e.ReadAt(ctx, b, p, 0); err != nil || !bytes.Equal(p[:n], buf.Bytes()) {
		r.t.Fatalf("Engine.ReadAt = %d, %v and WriteRange differ", n, err)
	}
	return p, nil
}

// leftovers is the number of shards that any drive lists.
func (r *rig) leftovers() int {
	n := 0
	for _, d := range r.drives {
		n += len(d.Blobs())
	}
	return n
}

func content(n int, seed uint64) []byte {
	p := make([]byte, n)
	s := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	s.Read(p)
	return p
}

func hang(release chan struct{}, ops ...memdrive.Op) memdrive.Fault {
	return func(op memdrive.Op, _ twofold.BlobID) error {
		for _, o := range ops {
			if o == op {
				<-release
			}
		}
		return nil
	}
}

func TestRoundTrip(t *testing.T) {
	for n := 1; n <= 16; n++ {
		for parity := 0; parity <= n/2; parity++ {
			r := newRig(t, n, parity)
			for _, size := range []int{0, 1, 100, 70000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 12345} {
				if n > 4 && size > 1<<20+1 {
					continue
				}
				want := content(size, uint64(size))
				b := r.mustWrite(want)
				if b.Size != int64(size) || int(b.Parity) != parity || int(b.Data+b.Parity) != n {
					t.Fatalf("n=%d: %+v", n, b)
				}
				got, err := r.read(b)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("n=%d parity=%d size=%d: %v", n, parity, size, err)
				}
			}
			if r.damage.Load() != 0 {
				t.Error("damage reported on healthy drives")
			}
		}
	}
}

func TestSizeHintThatLies(t *testing.T) {
	r := newRig(t, 4, 2)
	for _, size := range []int{0, 1, 65535, 65536, 65537, 300000, 1 << 20, 2<<20 + 5} {
		for _, hint := range []int64{0, 1, 65535, 65536, 299999, 300000, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20} {
			want := content(size, 3)
			b, err := r.e.Write(context.Background(), WriteOptions{ID: r.id(), Parity: -1, SizeHint: hint}, bytes.NewReader(want))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.read(b); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("size %d, hint %d: %v", size, hint, err)
			}
		}
	}
}

func TestReaderErrorStoresNothing(t *testing.T) {
	r := newRig(t, 4, 2)
	broken := errors.New("the client went away")
	for _, before := range []int{0, 10, 1 << 20, 7 << 20} {
		src := io.MultiReader(bytes.NewReader(content(before, 1)), iotestErr{broken})
		_, err := r.e.Write(context.Background(), WriteOptions{ID: r.id(), Parity: -1}, src)
		if err != broken {
			t.Errorf("after %d bytes: %v", before, err)
		}
		if r.leftovers() != 0 {
			t.Errorf("after %d bytes: shards are left", before)
		}
	}
	r.idle()
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// idle requires that in time no drive has a shard open.
func (r *rig) idle() {
	r.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for _, d := range r.drives {
		for d.InUse() != 0 {
			if time.Now().After(deadline) {
				r.t.Fatalf("%s: %d shards open", d, d.InUse())
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestRanges(t *testing.T) {
	r := newRig(t, 5, 2)
	want := content(3<<20+777, 9)
	b := r.mustWrite(want)
	ctx := context.Background()
	br, err := r.e.Open(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		off := rand.Int64N(b.Size + 10)
		n := rand.Int64N(min(2<<20, b.Size+20-off))
		end := min(off+n, b.Size)
		expect := want[min(off, b.Size):max(end, min(off, b.Size))]
		p := make([]byte, n)
		for _, readAt := range []func() (int, error){
			func() (int, error) { return br.ReadAt(ctx, p, off) },
			func() (int, error) { return r.e.ReadAt(ctx, b, p, off) },
		} {
			clear(p)
			m, err := readAt()
			if !bytes.Equal(p[:m], expect) || (err == io.EOF) != (m < len(p)) || err != nil && err != io.EOF {
				t.Fatalf("[%d,+%d): %d, %v", off, n, m, err)
			}
		}
		var buf bytes.Buffer
		m, err := br.WriteRange(ctx, &buf, off, n)
		if off+n > b.Size {
			if !errs.Is(err, errs.Range) {
				t.Fatalf("[%d,+%d): %v", off, n, err)
			}
		} else if err != nil || m != n || !bytes.Equal(buf.Bytes(), expect) {
			t.Fatalf("[%d,+%d): %d, %v", off, n, m, err)
		}
	}
	br.Close()
	r.e.Close()
	r.idle()
}

// TestSmallReadsReadLittle: each asks one drive, and none is opened twice.
func TestSmallReadsReadLittle(t *testing.T) {
	r := newRig(t, 4, 2)
	b := r.mustWrite(content(2<<20, 1))
	p := make([]byte, 4096)
	for range 10 {
		if _, err := r.e.ReadAt(context.Background(), b, p, 12345); err != nil {
			t.Fatal(err)
		}
	}
	reads, opens := 0, 0
	for _, d := range r.drives {
		reads += d.Count(memdrive.Read)
		opens += d.Count(memdrive.Open)
	}
	if reads != 10 || opens != 2 {
		t.Errorf("%d reads of drives, %d shards opened", reads, opens)
	}
}

// TestIdleReadersAreClosed: what ReadAt keeps open is let go when nobody reads, and
// never more than so many are.
func TestIdleReadersAreClosed(t *testing.T) { synctest.Test(t, testIdleReaders) }

func testIdleReaders(t *testing.T) {
	r := newRig(t, 2, 0, func(o *Options) { o.OpenReaders = 5 })
	for range 20 {
		b := r.mustWrite(content(10, 1))
		if _, err := r.e.ReadAt(context.Background(), b, make([]byte, 10), 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.drives[0].InUse(); n != 5 {
		t.Errorf("%d shards open", n)
	}
	time.Sleep(2*readerIdle + time.Second)
	if n := r.drives[0].InUse(); n != 0 {
		t.Errorf("%d shards open", n)
	}
}

// TestSeveralSets: a set can be added while the engine runs, blobs stay apart, and a
// walk over all of them is in order.
func TestSeveralSets(t *testing.T) {
	r := newRig(t, 4, 2)
	second := SetConfig{ID: twofold.SetID{Pool: 1}, Parity: 1}
	for i := range 2 {
		second.Slots = append(second.Slots, drive.NewSlot(second.ID, i, memdrive.New("more")))
	}
	ctx := context.Background()
	write := func(set twofold.SetID) (twofold.Blob, error) {
		return r.e.Write(ctx, WriteOptions{ID: r.id(), Set: set, Parity: -1}, bytes.NewReader(content(10, 1)))
	}
	if _, err := write(second.ID); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if err := r.e.AddSet(second); err != nil {
		t.Fatal(err)
	}
	if err := r.e.AddSet(second); !errs.Is(err, errs.Exists) {
		t.Error(err)
	}
	for _, bad := range []SetConfig{{ID: twofold.SetID{Pool: 2}}, {ID: twofold.SetID{Pool: 2}, Slots: second.Slots, Parity: 2}} {
		if err := r.e.AddSet(bad); !errs.Is(err, errs.Invalid) {
			t.Error(err)
		}
	}
	var want []string
	for i := range 20 {
		set := twofold.SetID{Pool: uint16(i % 2)}
		b, err := write(set)
		if err != nil || b.Set != set || int(b.Parity) != 2-i%2 {
			t.Fatal(b, err)
		}
		want = append(want, fmt.Sprint(b.ID, []twofold.SetID{set}))
	}
	var got []string
	if err := r.e.WalkBlobs(ctx, func(id twofold.BlobID, sets []twofold.SetID) error {
		got = append(got, fmt.Sprint(id, sets))
		return nil
	}); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%v\n%v", err, got, want)
	}
	if u := r.e.Usage(ctx); len(u.Pools) != 2 || len(r.e.Sets()) != 2 {
		t.Errorf("%+v", u)
	}
}
