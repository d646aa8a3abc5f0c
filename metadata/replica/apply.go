package replica

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
	"twofold/metadata"
)

// outcome is what is known of a command that was handed to a leader.
type outcome int

const (
	done    outcome = iota // committed and applied
	notDone                // certainly not, and never will be
	unknown                // perhaps, now or later
)

// Apply implements metadata.Store. The same bytes are sent again when a leader is
// lost: the state machine knows them by their session and sequence number.
func (g *Group) Apply(ctx context.Context, cmd *metadata.Command) (*metadata.Result, error) {
	const op = "replica.Apply"
	data, err := metadata.Encode(cmd)
	if err != nil {
		return nil, err
	}
	if len(data) > maxCommand {
		return nil, errs.Newf(op, errs.TooLarge, "a command of %d bytes, at most %d", len(data), maxCommand)
	}
	if err := g.admit(cmd); err != nil {
		return nil, err
	}
	maybe := false // an earlier attempt may have committed it, or still may
	for {
		n, err := g.awaitLeaderBriefly(ctx, maybe)
		if err != nil {
			if maybe {
				return nil, errs.E(op, errs.UnknownOutcome, err)
			}
			return nil, err
		}
		wait := g.changed.wait()
		res, out, err := n.submit(ctx, data)
		switch out {
		case done:
			return res, resultError(cmd, res)
		case unknown:
			maybe = true
		}
		if ctx.Err() != nil {
			if maybe {
				return nil, errs.E(op, errs.UnknownOutcome, err)
			}
			return nil, errs.E(op, errs.Unavailable, err)
		}
		select {
		case <-wait:
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// awaitLeaderBriefly waits for a leader; not for as long as ctx lasts when nothing
// was sent yet, because then the caller can be told that nothing will come of it.
func (g *Group) awaitLeaderBriefly(ctx context.Context, maybe bool) (*node, error) {
	if n := g.leader(); n != nil {
		return n, nil
	}
	if g.net.wire != nil {
		return nil, errElsewhere // the volume is open where the leader is, and nowhere else
	}
	if !maybe {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	return g.awaitLeader(ctx)
}

// patience is how long a request waits for a leader before it is refused.
const patience = 10 * time.Second

// maxCommand is the most bytes of one entry of the log (raft-wal takes up to 64 MiB).
const maxCommand = 32 << 20

// resultError turns a failed result into an error of its kind.
func resultError(cmd *metadata.Command, res *metadata.Result) error {
	if !res.Failed {
		return nil
	}
	return &errs.Error{Op: "metadata", Kind: res.Kind, Msg: res.Msg}
}

// submit hands a command to this replica, as the leader, and waits for its result.
func (n *node) submit(ctx context.Context, data []byte) (*metadata.Result, outcome, error) {
	n.host.waiting.Add(1) // before the library has the command: see stateHost.apply
	defer n.host.waiting.Add(-1)
	f := n.raft.Apply(data, time.Second)
	answer := make(chan error, 1)
	go func() { answer <- f.Error() }()
	select {
	case err := <-answer:
		if err != nil {
			return nil, classify(err), err
		}
		res, ok := f.Response().(*metadata.Result)
		if !ok { // it can't be; if it were, the same command again would bring the result
			return nil, unknown, errs.Newf("replica.Apply", errs.Other, "a response of type %T", f.Response())
		}
		return res, done, nil
	case <-ctx.Done():
		return nil, unknown, ctx.Err()
	case <-n.gone:
		return nil, unknown, n.reason
	case <-*n.port.severed.Load():
		return nil, unknown, errUnreachable
	}
}

// classify tells what an error of the library says about the command. Those that
// are answered before an entry is made are certain; a leader that stepped down, or
// shut down, may have left the entry with others.
func classify(err error) outcome {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return notDone
	default:
		return unknown
	}
}
