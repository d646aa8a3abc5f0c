package node

import (
	"context"
	"io"
	"time"

	"twofold"
	"twofold/engine"
	"twofold/internal/errs"
	"twofold/volume"
)

// passing is how long too few drives are taken for something that passes, since a node was
// lost or came back: as long as forwarded requests wait for a node that leads. By then
// another node leads, where it is this one that was cut off.
const passing = 10 * time.Second

// patient turns errors that a node's loss explains into errs.Unavailable: nothing was
// done, and who asks again is served soon, here or where another node leads. A mount does
// ask again (fusefs); told errs.WriteQuorum it would give up written bytes for which
// somebody else waits, as it should on one machine, where drives that are gone stay so.
type patient struct {
	lately func() bool // whether a node was lost or came back a moment ago
}

// lately reports whether another node was lost or came back less than passing ago.
func (n *Node) lately() bool {
	c := n.opts.Cluster
	for i := range c.Topology.Nodes {
		if i != c.Self && time.Since(c.Peers.State(i).Since) < passing {
			return true
		}
	}
	return false
}

func (p patient) turn(op string, err error) error {
	if k := errs.KindOf(err); (k == errs.WriteQuorum || k == errs.ReadQuorum) && p.lately() {
		return errs.E(op, errs.Unavailable, err)
	}
	return err
}

// patientBlobs is the engine of several nodes.
type patientBlobs struct {
	volume.Blobs
	patient
}

// Write implements volume.Blobs.
func (b patientBlobs) Write(ctx context.Context, o engine.WriteOptions, r io.Reader) (twofold.Blob, error) {
	blob, err := b.Blobs.Write(ctx, o, r)
	return blob, b.turn("node.Write", err)
}

// Open implements volume.Blobs.
func (b patientBlobs) Open(ctx context.Context, blob twofold.Blob) (*engine.BlobReader, error) {
	r, err := b.Blobs.Open(ctx, blob)
	return r, b.turn("node.Open", err)
}

// ReadAt implements volume.Blobs.
func (b patientBlobs) ReadAt(ctx context.Context, blob twofold.Blob, p []byte, off int64) (int, error) {
	n, err := b.Blobs.ReadAt(ctx, blob, p, off)
	return n, b.turn("node.ReadAt", err)
}

// patientPlacer is the placer of several nodes.
type patientPlacer struct {
	volume.Placer
	patient
}

// Place implements volume.Placer.
func (p patientPlacer) Place(name, class string) (twofold.SetID, int, error) {
	set, parity, err := p.Placer.Place(name, class)
	return set, parity, p.turn("node.Place", err)
}

// Writable implements volume.Placer.
func (p patientPlacer) Writable() error { return p.turn("node.Writable", p.Placer.Writable()) }
