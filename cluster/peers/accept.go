package peers

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// inbound is a connection that another node has dialled: what it serves. Until its
// hello was accepted it serves nothing else.
type inbound struct {
	p    *Peers
	conn *rpc.Conn
	node atomic.Int64 // -1: no hello was accepted

	// Set before node is; guarded by Peers.mu.
	process twofold.UUID
	class   Class
}

var _ rpc.Handler = (*inbound)(nil)

// Accept takes a connection whose peer is a node: it is rpc.Accept for that role. It
// refuses every other role with errs.Access, so that no request from outside reaches
// what Handle was given.
func (p *Peers) Accept(c *rpc.Conn) (rpc.Handler, error) {
	const op = "peers.Accept"
	if c.PeerRole() != rpc.RoleNode {
		return nil, errs.Newf(op, errs.Access, "peer role %d is not a node", c.PeerRole())
	}
	in := &inbound{p: p, conn: c}
	in.node.Store(-1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errs.Newf(op, errs.Unavailable, "shutting down")
	}
	p.inbound[in] = struct{}{}
	p.wg.Add(1)
	go in.forget()
	return in, nil
}

// forget waits for the connection's end.
func (in *inbound) forget() {
	defer in.p.wg.Done()
	<-in.conn.Done()
	in.p.mu.Lock()
	defer in.p.mu.Unlock()
	delete(in.p.inbound, in)
}

// Serve implements rpc.Handler.
func (in *inbound) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	const op = "peers.Serve"
	if r.Method == mHello {
		var h hello
		if err := r.Decode(&h); err != nil {
			return rpc.Answer{}, err
		}
		return in.hello(h)
	}
	node := int(in.node.Load())
	if node < 0 {
		return rpc.Answer{}, errs.Newf(op, errs.Access, "no hello was accepted on this connection")
	}
	if r.Method == mPing {
		var q ping
		if err := r.Decode(&q); err != nil {
			return rpc.Answer{}, err
		}
		p := in.p
		if why := p.otherStore(p.opts.Nodes[node].Address, q.Cluster); why != "" {
			return rpc.Answer{}, errs.Newf(op, errs.Invalid, "%s", why)
		}
		return rpc.Answer{Header: pong{Cluster: p.cluster(), Wall: p.opts.Now().UnixNano()}}, nil
	}
	h, err := in.p.handlers.find(r.Method)
	if err != nil {
		return rpc.Answer{}, err
	}
	return h.Serve(ctx, node, r)
}

// hello checks the other node and answers with what this one is.
func (in *inbound) hello(h hello) (rpc.Answer, error) {
	p := in.p
	if in.node.Load() >= 0 || !h.Class.known() {
		return rpc.Answer{}, errs.Newf("peers.Serve", errs.Invalid, "a hello that is not one")
	}
	at, known := p.nameOf(h.Facts, in.conn.RemoteAddr())
	who := at
	if !known {
		who += " " + h.Facts.Process.String()
	}
	// Of the hello's way only this end is known; it took much less than MaxSkew.
	why := p.check(at, h.Facts, time.Unix(0, h.Facts.Wall).Sub(p.opts.Now()))
	if why == "" && h.To != p.opts.Self {
		why = "this node is " + p.opts.Nodes[p.opts.Self].Address + ", and " + at + " has reached it by the name of another one: names and addresses of the nodes must be the same everywhere"
	}
	p.refusals.say(who, why, func() { p.log.Warn("refused a node", slog.String("node", at), slog.String("why", why)) })
	if why == "" {
		in.accepted(h)
	}
	return rpc.Answer{Header: welcome{Facts: p.facts(), Refused: why}}, nil
}

// accepted makes the connection the other node's one of its class. Those of before are
// closed: of a run of it that has ended without saying so, or cut off.
func (in *inbound) accepted(h hello) {
	p := in.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for old := range p.inbound {
		if int(old.node.Load()) == h.Facts.Node && (old.process != h.Facts.Process || old.class == h.Class) {
			p.closeSoon(old.conn)
		}
	}
	in.process, in.class = h.Facts.Process, h.Class
	in.node.Store(int64(h.Facts.Node))
	p.links[h.Facts.Node].wake() // it is there, so dial it at once
}

// dropInbound closes what a node that has fallen silent has dialled: the requests on it
// end, instead of waiting for the transport to find out.
func (p *Peers) dropInbound(node int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for in := range p.inbound {
		if int(in.node.Load()) == node {
			p.closeSoon(in.conn)
		}
	}
}

// closeSoon closes a connection without waiting for it. The caller holds p.mu.
func (p *Peers) closeSoon(c *rpc.Conn) {
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		c.Close()
	}()
}

// nameOf is what messages call a node that has dialled: its address in this node's
// arguments, or, where it is none of those, the host that it came from.
func (p *Peers) nameOf(f facts, remote string) (at string, known bool) {
	if f.Node >= 0 && f.Node < len(p.opts.Nodes) && f.Name == p.opts.Nodes[f.Node].Name && f.Node != p.opts.Self {
		return p.opts.Nodes[f.Node].Address, true
	}
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host, false
	}
	return remote, false
}
