package replica

import (
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

// A snapshot goes to another process in messages of up to 256 KiB, one after the
// other, each answered when the replica has written the one before: neither end holds
// more than that.
const (
	snapLimit  = 20 * time.Second // for the answer to one of them
	snapIdle   = 30 * time.Second // without one the receiver gives up
	snapPoll   = 2 * time.Second  // how long the end of a transfer waits to be told the outcome
	snapWindow = maxSnapData      // bytes
)

// installRemote is InstallSnapshot to another process.
func (p *port) installRemote(to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	const op = "replica.install"
	transfer := rand.Uint64() | 1
	if _, err := p.send(to, KindSnapOpen, snapLimit, encodeSnapOpen(p.drive(), transfer, req)); err != nil {
		return err
	}
	buf := make([]byte, snapWindow)
	for offset := uint64(0); ; {
		n, err := io.ReadFull(data, buf)
		if n > 0 {
			if _, err := p.send(to, KindSnapData, snapLimit, encodeSnapData(p.drive(), transfer, offset, buf[:n])); err != nil {
				return err
			}
			offset += uint64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return errs.E(op, errs.Other, err)
		}
	}
	for {
		b, err := p.send(to, KindSnapEnd, snapLimit, encodeSnapEnd(p.drive(), transfer))
		if err != nil {
			return err
		}
		i, err := decodeInstalled(b)
		if err != nil {
			return err
		}
		if i.ended {
			*resp = raft.InstallSnapshotResponse{RPCHeader: headerOf(driveOf(raft.ServerID(to))), Term: i.term, Success: i.success}
			return nil
		}
	}
}
