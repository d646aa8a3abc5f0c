package drives

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// Bounds of what one drive has under way, so that one that hangs leaves the connection,
// which has bounds of its own, to the node's others.
const (
	maxCalls     = 128
	maxCallBytes = 8 << 20 // of shards being written
)

// slowFor is how long a drive is Suspect after a call did not come back in time.
const slowFor = 10 * time.Second

// Remote is a drive of another node. Its states and its space are what the node told last,
// at most a moment ago; Offline as soon as the node is down.
type Remote struct {
	n    *Node
	id   twofold.DriveID
	name string

	told  atomic.Pointer[toldAt] // nil: the node does not have the drive
	slow  atomic.Int64           // Unix nanoseconds up to which it is Suspect
	slots chan struct{}          // one for each call under way
	bytes *semaphore.Weighted    // of blocks on their way
	large atomic.Int32           // large buffers that fill or are under way

	seen drive.State // guarded by Node.mu; that was reported last
}

// toldAt is what was told of a drive, and when it was asked for.
type toldAt struct {
	told
	at time.Time
}

var _ drive.Drive = (*Remote)(nil)

func newRemote(n *Node, id twofold.DriveID, name string) *Remote {
	return &Remote{
		n: n, id: id, name: name, seen: drive.Offline,
		slots: make(chan struct{}, maxCalls), bytes: semaphore.NewWeighted(maxCallBytes),
	}
}

// ID is the drive's id.
func (d *Remote) ID() twofold.DriveID { return d.id }

func (d *Remote) String() string { return d.name }

// State is what the node told last; Offline while the node is down, or did not tell for
// long.
func (d *Remote) State() drive.State {
	t := d.told.Load()
	if t == nil || !d.n.up() {
		return drive.Offline
	}
	switch age := time.Since(t.at); {
	case t.State == drive.Offline || age > offlineAfter:
		return drive.Offline
	case age > suspectAfter || d.slow.Load() > time.Now().UnixNano():
		return drive.Suspect
	}
	return t.State
}

// Healing reports whether the drive is being refilled, also while another state hides it,
// as the node told last.
func (d *Remote) Healing() bool {
	t := d.told.Load()
	return t != nil && t.told.Healing
}

// FileSystem tells drives apart that share no space: a number for each file system of all
// nodes. 0 where the node does not tell.
func (d *Remote) FileSystem() uint64 {
	t := d.told.Load()
	if t == nil || t.told.FileSystem == 0 {
		return 0
	}
	return d.n.fileSystem(t.told.FileSystem)
}

// cluster is the store that the drive belongs to; zero where that is not known.
func (d *Remote) cluster() (c twofold.ClusterID) {
	if t := d.told.Load(); t != nil {
		c = t.Cluster
	}
	return c
}

// call prepares a request to the drive's node.
func (d *Remote) call(op string, m rpc.Method, msg, reply any) *call {
	c := d.n.newCall(op, m, msg)
	c.reply = reply
	return c
}

// start begins a call when there is room for it. An error: it was not begun, and its
// buffers are free.
func (d *Remote) start(ctx context.Context, limit time.Duration, c *call) error {
	err := d.reserve(ctx, limit, c)
	if err != nil {
		buffers.put(c.payload)
		buffers.put(c.into)
		if c.free != nil {
			c.free()
		}
		return err
	}
	free, n := c.free, int64(len(c.payload))
	c.free = func() {
		<-d.slots
		d.bytes.Release(n)
		if free != nil {
			free()
		}
	}
	c.start(ctx, limit)
	return nil
}

// reserve takes a slot, and room for the payload.
func (d *Remote) reserve(ctx context.Context, limit time.Duration, c *call) error {
	n := int64(len(c.payload))
	select {
	case d.slots <- struct{}{}:
		if d.bytes.TryAcquire(n) {
			return nil
		}
		<-d.slots
	default:
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(d.n.whileUp(), cancel)()
	select {
	case d.slots <- struct{}{}:
		if d.bytes.Acquire(wait, n) == nil {
			return nil
		}
		<-d.slots
	case <-wait.Done():
	}
	if ctx.Err() != nil {
		return errs.E(c.op, errs.Canceled, context.Cause(ctx))
	}
	if !d.n.up() {
		return errs.Newf(c.op, errs.Unavailable, "%s went down", d.n.opt.Name)
	}
	return errs.Newf(c.op, errs.Unavailable, "%s has up to %d calls under way and none ended in %v", d, maxCalls, limit)
}

// wait waits for a call that start began.
func (d *Remote) wait(ctx context.Context, c *call) error {
	err := c.wait(ctx)
	if err != nil && c.late() && ctx.Err() == nil {
		d.slow.Store(time.Now().Add(slowFor).UnixNano())
	}
	if err == nil {
		return nil
	}
	return &errs.Error{Op: c.op, Kind: errs.KindOf(err), Msg: d.name, Err: err}
}

// do is start and wait.
func (d *Remote) do(ctx context.Context, limit time.Duration, c *call) error {
	if err := d.start(ctx, limit, c); err != nil {
		return err
	}
	return d.wait(ctx, c)
}

// Delete removes the blob's shard, see drive.Drive.
func (d *Remote) Delete(ctx context.Context, b twofold.BlobID) error {
	return d.do(ctx, d.n.opt.Deadline, d.call("drives.Delete", mDelete, &blobRequest{Drive: d.id, Blob: b}, nil))
}

// Usage tells the space of the drive's file system: as told with the states, or asked for
// where that is not known.
func (d *Remote) Usage(ctx context.Context) (drive.Usage, error) {
	const op = "drives.Usage"
	if t := d.told.Load(); t != nil && t.Usage != nil && d.n.up() && time.Since(t.at) < usageAge {
		return drive.Usage{Total: t.Usage.Total, Free: t.Usage.Free}, nil
	}
	var u usage
	if err := d.do(ctx, d.n.opt.Deadline, d.call(op, mUsage, &driveRequest{Drive: d.id}, &u)); err != nil {
		return drive.Usage{}, err
	}
	if u.Free > u.Total {
		return drive.Usage{}, errs.Newf(op, errs.Invalid, "%s: %d bytes free of %d", d, u.Free, u.Total)
	}
	return drive.Usage{Total: u.Total, Free: u.Free}, nil
}

// SetHealing marks the drive as one that is being refilled, or as full of all it should
// have; durable when it returns. What State and Healing tell follows with a moment's delay.
func (d *Remote) SetHealing(ctx context.Context, healing bool) error {
	c := d.call("drives.SetHealing", mHealing, &healingRequest{Drive: d.id, Healing: healing}, nil)
	return d.do(ctx, 3*d.n.opt.Deadline, c)
}

// Format asks for what the drive's format file says.
func (d *Remote) Format(ctx context.Context) (drive.Format, error) {
	const op = "drives.Format"
	var f drive.Format
	if err := d.do(ctx, d.n.opt.Deadline, d.call(op, mFormat, &driveRequest{Drive: d.id}, &f)); err != nil {
		return drive.Format{}, err
	}
	if f.Drive != d.id {
		return drive.Format{}, errs.Newf(op, errs.Invalid, "%s: the format of drive %s, asked for %s", d, f.Drive, d.id)
	}
	return f, nil
}

// ReportBad tells the drive's node that a shard there is missing or bad.
func (d *Remote) ReportBad(ctx context.Context, b twofold.BlobID, why string) error {
	q := &badRequest{Drive: d.id, Blob: b, Why: why[:min(len(why), maxWhy)]}
	return d.do(ctx, d.n.opt.Deadline, d.call("drives.ReportBad", mBad, q, nil))
}

// offline is the error of an operation on a drive that is not there.
func (d *Remote) offline(op string) error {
	return errs.Newf(op, errs.Unavailable, "%s is offline", d)
}
