package drives

import (
	"context"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// walkHandle is a walk over a drive that waits for its next page to be asked for: a
// drive's walk begins with a look at all of it, which each page alone would cost again.
type walkHandle struct {
	drive  twofold.DriveID
	cancel context.CancelFunc
	pages  chan walkPage
	pos    twofold.BlobID // the last id sent
	used   time.Time
}

// walkPage is ids in their order, as they are sent.
type walkPage struct {
	ids  []byte
	more bool
	err  error
}

// walk serves mWalk.
func (s *Server) walk(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	var q walkRequest
	if err := decode(r, &q); err != nil {
		return rpc.Answer{}, err
	}
	p, err := s.peer(r.Conn)
	if err != nil {
		return rpc.Answer{}, err
	}
	h := p.takeWalk(q.Walk)
	if h != nil && (q.End || h.pos != q.After || h.drive != q.Drive) {
		h.cancel()
		h = nil
	}
	if q.End {
		return answer(r, &walkAnswer{}, nil, nil)
	}
	if h == nil {
		d, err := s.drive(q.Drive)
		if err != nil {
			return rpc.Answer{}, err
		}
		h = p.startWalk(d, q.After)
	}
	var page walkPage
	select {
	case page = <-h.pages:
	case <-ctx.Done():
		h.cancel()
		return rpc.Answer{}, errs.E("drives.Walk", errs.Canceled, context.Cause(ctx))
	}
	if page.err != nil || !page.more {
		h.cancel()
	} else {
		h.pos = twofold.BlobID(page.ids[len(page.ids)-len(h.pos):])
		p.putWalk(q.Walk, h)
	}
	if page.err != nil {
		return rpc.Answer{}, page.err
	}
	return answer(r, &walkAnswer{More: page.more}, page.ids, nil)
}

// startWalk begins a walk, which ends with the connection.
func (p *peer) startWalk(d drive.Drive, after twofold.BlobID) *walkHandle {
	ctx, cancel := context.WithCancel(p.ctx)
	h := &walkHandle{drive: d.ID(), cancel: cancel, pages: make(chan walkPage, 1)}
	go func() {
		var ids []byte
		send := func(page walkPage) error {
			select {
			case h.pages <- page:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := d.Walk(ctx, after, func(id twofold.BlobID) error {
			ids = append(ids, id[:]...)
			if len(ids) < pageIDs*len(id) {
				return ctx.Err()
			}
			full := ids
			ids = nil
			return send(walkPage{ids: full, more: true})
		})
		send(walkPage{ids: ids, err: err})
	}()
	return h
}

// takeWalk takes a walk out, so that nobody else has it.
func (p *peer) takeWalk(id handle) *walkHandle {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.walks[id]
	delete(p.walks, id)
	return h
}

// putWalk keeps a walk for its next page, unless there are too many: then that one begins
// anew.
func (p *peer) putWalk(id handle, h *walkHandle) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.walks[id] != nil || len(p.walks) >= maxWalks {
		h.cancel()
		return
	}
	h.used = time.Now()
	p.walks[id] = h
}
