package drive_test

import (
	"context"
	"testing"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/internal/vfs/memfs"
)

// mounted is a drive on a disk mounted at /disk, watched, with its events.
type mounted struct {
	m      *memfs.FS
	disk   *memfs.Disk
	c      twofold.ClusterID
	d      *drive.Local
	slot   *drive.Slot
	events chan drive.Event
	opt    drive.Options
}

func newMounted(t *testing.T, handle func(drive.Event)) *mounted {
	t.Helper()
	r := &mounted{m: memDrive(t), c: twofold.NewUUID(), events: make(chan drive.Event, 100)}
	r.disk = r.m.NewDisk()
	r.mount(t, r.disk)
	r.opt = drive.Options{FS: r.m, Path: "/disk", Reserve: -1}
	r.d = open(t, r.m, "/disk", r.c)
	r.slot = drive.NewSlot(twofold.SetID{}, 0, r.d)
	watch(t, drive.Watched{Slot: r.slot, Drive: r.d}, func(e drive.Event) {
		if handle != nil {
			handle(e)
		}
		r.events <- e
	})
	return r
}

func (r *mounted) mount(t *testing.T, d *memfs.Disk) {
	t.Helper()
	if err := r.m.Mount("/disk", d); err != nil {
		t.Fatal(err)
	}
}

func (r *mounted) unmount(t *testing.T) {
	t.Helper()
	if err := r.m.Unmount("/disk"); err != nil {
		t.Fatal(err)
	}
}

func (r *mounted) want(t *testing.T, k drive.EventKind) drive.Event {
	t.Helper()
	select {
	case e := <-r.events:
		if e.Kind != k {
			t.Fatalf("event %v (%s), want %v", e.Kind, e.Why, k)
		}
		return e
	case <-time.After(5 * time.Second):
		t.Fatalf("no event, want %v", k)
	}
	panic("not reached")
}

func (r *mounted) quiet(t *testing.T) {
	t.Helper()
	select {
	case e := <-r.events:
		t.Fatalf("event %v (%s), want none", e.Kind, e.Why)
	case <-time.After(50 * time.Millisecond):
	}
}

func header(c twofold.ClusterID, n uint64) drive.ShardHeader {
	return drivetest.Header(c, twofold.MakeBlobID(1, n))
}

// An unmounted drive is lost, and its empty mount point is not taken for a new
// drive; mounted again it is back, healing, with its shards. What was being written
// meanwhile is not committed, on either side.
func TestUnmountedAndBack(t *testing.T) {
	r := newMounted(t, nil)
	ctx := t.Context()
	blocks, err := drivetest.Put(ctx, r.d, header(r.c, 1), 1000, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.d.Create(ctx, header(r.c, 2))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteBlock(make([]byte, drivetest.Stripe/2)); err != nil {
		t.Fatal(err)
	}
	r.unmount(t)
	if e := r.want(t, drive.Lost); e.Slot != r.slot || e.Drive != r.d {
		t.Fatalf("%+v", e)
	}
	if r.d.State() != drive.Offline || r.slot.Drive().State() != drive.Offline {
		t.Fatal("a lost drive is not offline")
	}
	r.quiet(t) // in particular no Replaced: there is an empty directory, but nothing mounted
	if err := r.d.Delete(ctx, header(r.c, 1).Blob); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("delete on a lost drive: %v", err)
	}
	r.mount(t, r.disk)
	r.want(t, drive.Back)
	if r.d.State() != drive.Healing || r.slot.Drive() != r.d {
		t.Fatalf("back: %v", r.d.State())
	}
	if err := w.Commit(drive.ShardTrailer{Size: drivetest.Stripe}); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("commit of a shard begun before the loss: %v", err)
	}
	if err := drivetest.Verify(ctx, r.d, header(r.c, 1).Blob, blocks); err != nil {
		t.Fatal(err)
	}
	if err := r.d.SetHealing(ctx, false); err != nil || r.d.State() != drive.Online {
		t.Fatalf("%v, %v", err, r.d.State())
	}
}

// A fresh disk in a lost one's place is offered, formatted with a new id, and used.
func TestReplaced(t *testing.T) {
	ctx := context.Background()
	formatted := make(chan *drive.Local, 1)
	r := newMounted(t, func(e drive.Event) {
		if e.Kind == drive.Replaced {
			d, err := e.Reformat(ctx)
			if err != nil {
				t.Error(err)
			}
			formatted <- d
		}
	})
	r.mount(t, r.m.NewDisk())
	r.want(t, drive.Lost)
	r.want(t, drive.Replaced)
	d := <-formatted
	defer d.Close()
	if d.ID() == r.d.ID() || r.slot.Drive() != d || d.State() != drive.Healing {
		t.Fatalf("id %v after %v, %v", d.ID(), r.d.ID(), d.State())
	}
	was, is := r.d.Format(), d.Format()
	is.Drive, is.Created = was.Drive, was.Created
	if was != is {
		t.Fatalf("the new drive's position is %+v, the old one's %+v", is, was)
	}
	if _, err := drivetest.Put(ctx, d, header(r.c, 1), 1000, 1, ""); err != nil {
		t.Fatal(err)
	}
	r.mount(t, r.disk) // the old one again: it is not this slot's any more
	r.want(t, drive.Lost)
	r.want(t, drive.Foreign)
	r.quiet(t)
}

// A directory that was removed and made again, on a file system that nothing is
// mounted on, is a new drive too.
func TestDirectoryRemade(t *testing.T) {
	r := newMounted(t, nil)
	r.unmount(t)
	r.want(t, drive.Lost)
	if err := r.m.Mkdir("/plain"); err != nil {
		t.Fatal(err)
	}
	d := open(t, r.m, "/plain", r.c)
	slot := drive.NewSlot(twofold.SetID{}, 1, d)
	events := make(chan drive.Event, 10)
	watch(t, drive.Watched{Slot: slot, Drive: d}, func(e drive.Event) { events <- e })
	if err := r.m.Rename("/plain", "/away"); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != drive.Lost {
		t.Fatal(e.Kind)
	}
	if err := r.m.Mkdir("/plain"); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != drive.Replaced {
		t.Fatal(e.Kind)
	}
}

// A drive that was missing at the start is opened when it shows up.
func TestMissingAtStart(t *testing.T) {
	m := memDrive(t)
	c := twofold.NewUUID()
	f := testFormat(c)
	slot := drive.NewSlot(f.SetID(), 0, nil)
	if slot.Drive().State() != drive.Offline {
		t.Fatal("an empty slot is not offline")
	}
	events := make(chan drive.Event, 10)
	watch(t, drive.Watched{Slot: slot, Options: drive.Options{FS: m, Path: "/disk", Reserve: -1}, Format: f, NeedMount: true},
		func(e drive.Event) { events <- e })
	disk := m.NewDisk()
	if err := m.Mount("/disk", disk); err != nil { // fresh, and really mounted
		t.Fatal(err)
	}
	if e := <-events; e.Kind != drive.Replaced {
		t.Fatal(e.Kind)
	}
	other := f
	other.Cluster = twofold.NewUUID()
	if err := drive.WriteFormat(m, "/disk", other); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != drive.Foreign {
		t.Fatal(e.Kind)
	}
	if err := m.Remove("/disk/format.json"); err != nil {
		t.Fatal(err)
	}
	if err := drive.WriteFormat(m, "/disk", f); err != nil {
		t.Fatal(err)
	}
	e := <-events
	if e.Kind == drive.Replaced { // it was seen empty in between
		e = <-events
	}
	if e.Kind != drive.Back || e.Drive.ID() != f.Drive || slot.Drive() != e.Drive || e.Drive.State() != drive.Healing {
		t.Fatalf("%v, state %v", e.Kind, slot.Drive().State())
	}
	e.Drive.Close()
}

// Directories that somebody removed are made again, and the drive is refilled.
func TestDirectoriesRemoved(t *testing.T) {
	r := newMounted(t, nil)
	h := header(r.c, 0x42)
	if _, err := drivetest.Put(t.Context(), r.d, h, 1000, 1, ""); err != nil {
		t.Fatal(err)
	}
	if err := r.m.Remove(blobFile("/disk", h.Blob)); err != nil {
		t.Fatal(err)
	}
	if err := r.m.Remove("/disk/blobs/42"); err != nil {
		t.Fatal(err)
	}
	if _, err := drivetest.Put(t.Context(), r.d, h, 1000, 1, ""); !errs.Is(err, errs.Unavailable) {
		t.Fatal(err)
	}
	r.want(t, drive.Lost)
	r.want(t, drive.Back)
	if _, err := drivetest.Put(t.Context(), r.d, h, 1000, 1, ""); err != nil {
		t.Fatal(err)
	}
	if r.d.State() != drive.Healing {
		t.Fatal(r.d.State())
	}
}

// Somebody who copies the format file over itself does not lose the drive.
func TestFormatFileTouched(t *testing.T) {
	r := newMounted(t, nil)
	b, err := vfs.ReadFile(r.m, "/disk/format.json", 1<<20)
	if err == nil {
		err = vfs.WriteFile(r.m, "/disk/format.json", b)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.quiet(t)
	if _, err := drivetest.Put(t.Context(), r.d, header(r.c, 1), 10, 1, ""); err != nil {
		t.Fatal(err)
	}
}

// A mark that the drive is being refilled is found by the next start.
func TestHealingSurvives(t *testing.T) {
	m := memDrive(t)
	c := twofold.NewUUID()
	d := open(t, m, "/disk", c)
	if err := d.SetHealing(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	_, err := drive.Open(t.Context(), drive.Options{FS: m, Path: "/disk"})
	if !errs.Is(err, errs.Busy) {
		t.Fatalf("a second open: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stat(t.Context(), twofold.MakeBlobID(1, 1)); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("stat after close: %v", err)
	}
	d, err = drive.Open(t.Context(), drive.Options{FS: m, Path: "/disk", Reserve: -1})
	if err != nil || d.State() != drive.Healing {
		t.Fatalf("%v, %v", err, d.State())
	}
	d.Close()
}

// A fresh directory that the owner refuses is offered once, and again when asked for.
func TestReplacedAgain(t *testing.T) {
	m := memDrive(t)
	c := twofold.NewUUID()
	if err := m.Mkdir("/fresh"); err != nil {
		t.Fatal(err)
	}
	slot := drive.NewSlot(twofold.SetID{}, 0, nil)
	offers := make(chan drive.Event, 10)
	f := drive.Format{Version: drive.FormatVersion, Cluster: c, Sets: 1, SetSize: 1}
	monitor := watch(t, drive.Watched{Slot: slot, Options: drive.Options{FS: m, Path: "/fresh", Reserve: -1}, Format: f},
		func(e drive.Event) { offers <- e })
	for range 2 {
		select {
		case e := <-offers:
			if e.Kind != drive.Replaced {
				t.Fatal(e.Kind)
			}
		case <-time.After(time.Minute):
			t.Fatal("it is not offered")
		}
		if len(offers) > 0 {
			t.Fatal("it is offered without being asked for")
		}
		monitor.Again()
	}
}
