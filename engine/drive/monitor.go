package drive

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/internal/vfs"
)

// EventKind is what happened to a slot's drive.
type EventKind uint8

const (
	// Lost: the path is not the drive any more (unmounted, removed, another drive
	// is there). The drive is Offline.
	Lost EventKind = 1
	// Back: the drive is at its path again, with the same id, and takes part again;
	// Event.Slot holds it. It missed what was written meanwhile: it is Healing until
	// the owner has refilled it and called SetHealing(ctx, false).
	Back EventKind = 2
	// Replaced: in the drive's place is a fresh, empty directory, on a file system
	// that may be it. Event.Reformat makes it a new drive at the same position, if
	// the owner wants that; until then the slot stays offline. Sent once, and after
	// Monitor.Again.
	Replaced EventKind = 3
	// Foreign: something else is in the drive's place, see Event.Why: a drive of
	// another store or position, or files that are not ours. Sent once.
	Foreign EventKind = 4
)

// String is the kind in a word.
func (k EventKind) String() string {
	switch k {
	case Lost:
		return "lost"
	case Back:
		return "back"
	case Replaced:
		return "replaced"
	case Foreign:
		return "foreign"
	}
	return "unknown"
}

// Event tells a Monitor's owner what happened to a drive.
type Event struct {
	Kind  EventKind
	Slot  *Slot
	Drive *Local // the drive lost, or back; nil for Replaced, and where none was ever seen
	Why   string // a sentence for the log
	// Reformat, for Replaced: formats the directory as a new drive, of a new id, at
	// the position of the lost one, opens it, puts it into the slot (Healing), and
	// watches it. To be called within Handle. When it fails the event comes again.
	Reformat func(ctx context.Context) (*Local, error)
}

// Watched is a slot to watch.
type Watched struct {
	Slot *Slot
	// Drive is what was opened for the slot, or nil when it was missing.
	Drive *Local
	// Options and Format are needed where Drive is nil, to open the drive when it
	// shows up: where, and which. Format.Drive may be zero: not known, then any
	// drive of the cluster at the position is taken.
	Options Options
	Format  Format
	// NeedMount: the place is known to be a mount point. A directory there that is
	// none is a file system that is not mounted, not a new drive. Known by itself
	// where Drive is given.
	NeedMount bool
}

// MonitorOptions configure a Monitor. Zero values are the defaults.
type MonitorOptions struct {
	Interval time.Duration // between looks at each drive; 500 ms
	Probe    time.Duration // between test writes to a drive that has had no other; 30 s
	Slow     time.Duration // an operation under way for longer makes its drive suspect; 5 s
	Logger   *slog.Logger
	// Handle is called for each event, one at a time. It may take its time: that
	// delays the looks at the event's drive, and other events.
	Handle func(Event)
}

// Monitor watches drives: that their paths still are them, that they can be written,
// have space, and answer. Each is watched by a goroutine of its own, so that one
// that hangs does not hide another.
type Monitor struct {
	opt    MonitorOptions
	ctx    context.Context // ends with Stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
	handle sync.Mutex // held during Handle
	again  atomic.Uint64
}

// NewMonitor returns a Monitor that watches nothing yet.
func NewMonitor(opt MonitorOptions) *Monitor {
	if opt.Interval == 0 {
		opt.Interval = 500 * time.Millisecond
	}
	if opt.Probe == 0 {
		opt.Probe = 30 * time.Second
	}
	if opt.Slow == 0 {
		opt.Slow = 5 * time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Handle == nil {
		opt.Handle = func(Event) {}
	}
	m := &Monitor{opt: opt}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Watch begins to watch a slot. Not after Stop.
func (m *Monitor) Watch(w Watched) {
	if w.Drive != nil {
		w.Options, w.Format = w.Drive.opt, w.Drive.format
	}
	w.Options.defaults()
	s := &sentry{m: m, slot: w.Slot, opt: w.Options, format: w.Format, d: w.Drive,
		needMount: w.NeedMount, looks: newGuard(w.Options.Path), lastProbe: time.Now()}
	if w.Drive != nil {
		s.needMount = w.Drive.MountPoint()
	}
	m.wg.Go(s.watch)
}

// Again has Replaced sent once more for each fresh directory that was not made a drive.
func (m *Monitor) Again() { m.again.Add(1) }

// Stop ends the watching and waits until no event is being handled. Not to be called
// from Handle.
func (m *Monitor) Stop() {
	m.cancel()
	m.wg.Wait()
}

// emit logs an event and has it handled.
func (m *Monitor) emit(e Event, path string) {
	m.handle.Lock()
	defer m.handle.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	m.opt.Logger.Warn("drive "+e.Kind.String(), "path", path, "why", e.Why)
	m.opt.Handle(e)
}

// sentry watches one slot. Its fields are its goroutine's alone.
type sentry struct {
	m      *Monitor
	slot   *Slot
	opt    Options
	format Format
	d      *Local // the slot's drive; nil until one was seen
	looks  *guard // runs what may hang; is never down

	needMount bool      // the place is a mount point
	lost      bool      // Lost was sent, or the drive never seen
	told      string    // what was said of the thing in the drive's place, not to say it twice
	again     uint64    // of the Monitor's, when something was said last
	emptyFor  int       // looks in a row that found a fresh directory
	lastProbe time.Time // the last test write, or other successful one
}

func (s *sentry) watch() {
	tick := time.NewTicker(s.m.opt.Interval)
	defer tick.Stop()
	for {
		select {
		case <-s.m.ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look is one round.
func (s *sentry) look() {
	if !s.looks.idle() {
		s.looks.oldest(time.Now())
		return // the last round's I/O has not come back: nothing new can be learned
	}
	if s.d == nil || s.d.health.lostWhy() != "" {
		s.lookForDrive()
		return
	}
	if s.lost { // found again by a reattach that took longer than its look
		s.returned(s.d, s.format)
		return
	}
	s.lookAfter(s.d)
	if why := s.d.health.lostWhy(); why != "" {
		s.lost = true
		s.m.emit(Event{Kind: Lost, Slot: s.slot, Drive: s.d, Why: why}, s.opt.Path)
	}
}

// lookAfter checks a drive that is there.
func (s *sentry) lookAfter(d *Local) {
	slow := d.guard.oldest(time.Now()) > s.m.opt.Slow
	d.health.setSlow(slow)
	err := s.do("drive.look", d.opt.Deadline, func() error {
		if err := d.still("drive.look"); err != nil {
			return err
		}
		_, err := d.space(0)
		if errs.Is(err, errs.NoSpace) {
			return nil // the state tells
		}
		return d.fail("drive.look", err)
	})
	switch {
	case d.health.lostWhy() != "":
		return
	case err != nil && !s.looks.idle():
		d.health.dead(err) // not even a stat comes back
		return
	case err != nil:
		d.health.probed(err)
		return
	case d.guard.anyHung():
		return // offline until what hangs comes back
	}
	if good := time.Unix(0, d.lastGood.Load()); good.After(s.lastProbe) && !d.health.suspicious() {
		s.lastProbe = good // a commit is as good as a test write
	}
	if d.health.suspicious() || time.Since(s.lastProbe) >= s.m.opt.Probe {
		s.probe(d)
	}
}

// probe writes a small file, durably, reads it back and removes it.
func (s *sentry) probe(d *Local) {
	err := s.do("drive.probe", 3*d.opt.Deadline, func() error {
		name := path.Join(d.opt.Path, tmpDir, "probe")
		want := []byte("can this drive be written?\n")
		if err := vfs.WriteFile(d.fs, name, want); err != nil {
			return err
		}
		got, err := vfs.ReadFile(d.fs, name, 4096)
		if err == nil && string(got) != string(want) {
			err = errors.New("the test file reads back wrong")
		}
		if e := d.fs.Remove(name); err == nil {
			err = e
		}
		if errors.Is(err, fs.ErrNotExist) && d.still("drive.probe") == nil {
			d.lose("directories of the drive are gone: " + err.Error())
		}
		return err
	})
	if d.health.lostWhy() != "" {
		return
	}
	if kindOf(err) == errs.NoSpace {
		err = nil // no fault of the drive's
	}
	s.lastProbe = time.Now()
	d.health.probed(err)
}

// do runs fn so that the sentry goes on when the file system hangs.
func (s *sentry) do(op string, limit time.Duration, fn func() error) error {
	return s.looks.run(s.m.ctx, op, limit, fn, nil)
}

// lookForDrive looks whether a missing drive is back, or something else is there.
func (s *sentry) lookForDrive() {
	if !s.lost && s.d != nil { // lost by an operation, not by a look
		s.lost = true
		s.m.emit(Event{Kind: Lost, Slot: s.slot, Drive: s.d, Why: s.d.health.lostWhy()}, s.opt.Path)
	}
	var f Format
	fresh := false
	err := s.do("drive.look", s.opt.Deadline, func() (err error) {
		f, err = ReadFormat(s.opt.FS, s.opt.Path)
		if errs.Is(err, errs.NotFound) {
			fresh = s.mayBeNew()
		}
		return err
	})
	if !fresh {
		s.emptyFor = 0
	}
	switch {
	case err == nil && s.isMine(&f):
		s.back(f)
	case err == nil:
		s.foreign("drive " + f.Drive.String() + " of cluster " + f.Cluster.String() + ", pool/set " + f.SetID().String() + ", is there")
	case fresh:
		s.fresh()
	case errs.Is(err, errs.Invalid), errs.Is(err, errs.Corrupt), errs.Is(err, errs.Unsupported):
		s.foreign(err.Error())
	}
}

// isMine reports whether f is the format of the drive that is missed.
func (s *sentry) isMine(f *Format) bool {
	w := &s.format
	if f.Cluster != w.Cluster || f.Pool != w.Pool || f.Set != w.Set || f.Index != w.Index {
		return false
	}
	return w.Drive.IsZero() || w.Drive == f.Drive
}

// mayBeNew reports whether the fresh directory can be a new drive: not where the
// lost one was a mount point and the directory is not one.
func (s *sentry) mayBeNew() bool {
	root, err := s.opt.FS.Stat(s.opt.Path)
	if err != nil {
		return false
	}
	if !s.needMount {
		return root.Dir
	}
	mounted, err := MountPoint(s.opt.FS, s.opt.Path)
	return err == nil && mounted
}

// MountPoint reports whether a directory is the root of a file system, by comparing
// it with its parent.
func MountPoint(fsys vfs.FS, dir string) (bool, error) {
	root, err := fsys.Stat(dir)
	if err != nil {
		return false, errs.E("drive.MountPoint", kindOf(err), err)
	}
	up, err := fsys.Stat(dir + "/..") // not path.Join: dir may be a symbolic link
	if err != nil {
		return false, errs.E("drive.MountPoint", kindOf(err), err)
	}
	return up.Dev != root.Dev || up.Ino == root.Ino, nil // "/.." is "/"
}

// MountPoint reports whether the drive's directory is one.
func (d *Local) MountPoint() bool { return d.identity.Load().mount }

func (s *sentry) foreign(why string) {
	if s.told != why {
		s.told = why
		s.m.emit(Event{Kind: Foreign, Slot: s.slot, Drive: s.d, Why: why}, s.opt.Path)
	}
}

// fresh offers an empty directory for formatting, when it has been empty for two
// looks: somebody may be about to put the old content back.
func (s *sentry) fresh() {
	s.emptyFor++
	const why = "a fresh directory is in its place"
	again := s.m.again.Load()
	if s.emptyFor < 2 || s.told == why && s.again == again {
		return
	}
	s.told, s.again = why, again
	s.m.emit(Event{Kind: Replaced, Slot: s.slot, Why: why, Reformat: s.reformat}, s.opt.Path)
}

// reformat is Event.Reformat. It runs on the sentry's goroutine, in Handle.
func (s *sentry) reformat(ctx context.Context) (*Local, error) {
	s.told = "" // until it has worked
	f := s.format
	f.Drive, f.Created = twofold.NewUUID(), twofold.Now()
	err := s.do("drive.Reformat", 3*s.opt.Deadline, func() error {
		if !s.mayBeNew() {
			return errs.Newf("drive.Reformat", errs.Unavailable, "%s is not mounted", s.opt.Path)
		}
		return WriteFormat(s.opt.FS, s.opt.Path, f)
	})
	if err != nil {
		return nil, err
	}
	d, err := s.open(ctx, f)
	if err != nil {
		s.format.Drive = f.Drive // it is formatted: the next look opens it
		s.d = nil
		return nil, err
	}
	s.take(d, f)
	return d, nil
}

// back takes a drive that came back into use.
func (s *sentry) back(f Format) {
	d := s.d
	var err error
	if d != nil {
		err = s.do("drive.attach", 3*s.opt.Deadline, d.reattach)
	} else {
		d, err = s.open(s.m.ctx, f)
	}
	switch {
	case err == nil:
		s.returned(d, f)
	case s.m.ctx.Err() == nil:
		s.foreign(err.Error())
	}
}

// open opens a drive that is to be refilled.
func (s *sentry) open(ctx context.Context, f Format) (*Local, error) {
	opt := s.opt
	opt.ID = f.Drive
	d, err := Open(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := d.SetHealing(ctx, true); err != nil && !errs.Is(err, errs.ReadOnly) {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (s *sentry) returned(d *Local, f Format) {
	s.take(d, f)
	s.m.emit(Event{Kind: Back, Slot: s.slot, Drive: d, Why: "the drive is at its path again"}, s.opt.Path)
}

// take makes d the slot's drive.
func (s *sentry) take(d *Local, f Format) {
	s.d, s.format, s.opt.ID = d, f, f.Drive
	s.lost, s.told, s.emptyFor, s.lastProbe = false, "", 0, time.Now()
	s.slot.Put(d)
}

// reattach makes the drive found at the path again this one's, Healing.
func (d *Local) reattach() error {
	if err := d.attach(); err != nil {
		return err
	}
	if err := d.markHealing(true); err != nil && kindOf(err) != errs.ReadOnly {
		d.release()
		return err
	}
	d.health.change("found again", func() {
		d.health.lost, d.health.failed, d.health.faults = "", 0, 0
	})
	return nil
}
