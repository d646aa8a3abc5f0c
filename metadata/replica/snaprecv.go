package replica

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// inflow is the snapshot that another process sends to a replica, one at a time: a
// new one ends the one before. The zero value is ready.
type inflow struct {
	mu  sync.Mutex
	cur *transfer // guarded by mu
}

// transfer is a snapshot that comes in.
type transfer struct {
	id   uint64
	size int64

	pipe   *io.PipeWriter        // to the replica's main loop
	answer chan raft.RPCResponse // of the replica
	ended  chan struct{}         // closed when outcome and err are set
	result raft.InstallSnapshotResponse
	err    error

	mu     sync.Mutex  // serialises the messages
	offset uint64      // guarded by mu
	idle   *time.Timer // ends a transfer that nothing more comes of
}

var errTransfer = errs.Newf("replica.install", errs.Stale, "the transfer of the snapshot is not the current one")

// open makes a transfer the current one.
func (in *inflow) open(t *transfer) {
	in.mu.Lock()
	old := in.cur
	in.cur = t
	in.mu.Unlock()
	if old != nil {
		old.stop(errTransfer)
	}
}

func (in *inflow) find(id uint64) (*transfer, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cur == nil || in.cur.id != id {
		return nil, errTransfer
	}
	return in.cur, nil
}

func (t *transfer) stop(err error) {
	t.idle.Stop()
	t.pipe.CloseWithError(err)
}

// await takes the replica's answer.
func (t *transfer) await(p *port) {
	select {
	case r := <-t.answer:
		t.err = answer(&t.result, r.Response, r.Error)
	case <-p.closed:
		t.err = errUnreachable
	}
	t.stop(errTransfer)
	close(t.ended)
}

func (p *port) receiveSnapOpen(ctx context.Context, msg []byte) error {
	id, req, err := decodeSnapOpen(msg)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	t := &transfer{id: id, size: req.Size, pipe: w, answer: make(chan raft.RPCResponse, 1), ended: make(chan struct{})}
	t.idle = time.AfterFunc(snapIdle, func() {
		w.CloseWithError(errs.Newf("replica.install", errs.Unavailable, "nothing more comes of the snapshot"))
	})
	p.inflow.open(t) // first: the replica may be waiting for the one before
	if err := p.put(ctx, raft.RPC{Command: req, Reader: r, RespChan: t.answer}); err != nil {
		t.stop(err)
		return err
	}
	go t.await(p)
	return nil
}

func (p *port) receiveSnapData(ctx context.Context, msg []byte) error {
	d, _, err := openMessage(msg)
	if err != nil {
		return err
	}
	id, offset := d.u64(), d.u64()
	if d.bad || len(d.b) == 0 || len(d.b) > maxSnapData {
		return errs.Newf("replica.Receive", errs.Invalid, "%d bytes of a snapshot", len(d.b))
	}
	t, err := p.inflow.find(id)
	if err != nil {
		return err
	}
	// The replica reads what it is given, or has ended the transfer; when the sender
	// gives up, so do we: the pipe can't take the same bytes again.
	defer context.AfterFunc(ctx, func() { t.stop(errUnreachable) })()
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset != t.offset || int64(offset)+int64(len(d.b)) > t.size {
		return errs.Newf("replica.Receive", errs.Invalid, "bytes of a snapshot at %d, not at %d", offset, t.offset)
	}
	t.idle.Reset(snapIdle)
	n, err := t.pipe.Write(d.b)
	t.offset += uint64(n)
	return err
}

func (p *port) receiveSnapEnd(ctx context.Context, msg []byte) ([]byte, error) {
	d, _, err := openMessage(msg)
	if err != nil {
		return nil, err
	}
	id := d.u64()
	if err := d.done(); err != nil {
		return nil, err
	}
	t, err := p.inflow.find(id)
	if err != nil {
		return nil, err
	}
	t.idle.Stop()
	t.pipe.Close()
	poll := time.NewTimer(snapPoll)
	defer poll.Stop()
	select {
	case <-t.ended:
	case <-poll.C:
		return encodeInstalled(installed{}), nil
	case <-ctx.Done():
		return nil, errUnreachable
	}
	if t.err != nil {
		return nil, t.err
	}
	return encodeInstalled(installed{ended: true, term: t.result.Term, success: t.result.Success}), nil
}
