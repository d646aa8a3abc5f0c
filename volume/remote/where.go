package remote

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// Where is what a node knows of the others, for mounts.
type Where struct {
	Nodes   []string // URLs of all nodes, this one's as well
	Leading string   // of the one that leads; "" where that is not known
}

// whereAns is Where on the wire.
type whereAns struct {
	Nodes   []string `cbor:"1,keyasint,omitempty"`
	Leading string   `cbor:"2,keyasint,omitempty"`
	Here    bool     `cbor:"3,keyasint,omitempty"` // this node leads, and takes sessions
}

// Door lets mounts in at one of several nodes, for the life of its process: to a Server while
// this node leads. A mount that comes to another one is told where to go. Safe for concurrent
// use.
type Door struct {
	where func() Where
	log   *slog.Logger

	mu  sync.Mutex
	srv *Server // nil while this node does not lead
}

// NewDoor makes a door that is shut. where must be quick; whether this node leads the door
// knows by itself.
func NewDoor(where func() Where, log *slog.Logger) *Door { return &Door{where: where, log: log} }

// Serve lets mounts in to s from now on, or, nil, none. Those that are in stay with the Server
// they have: it is closed by its owner.
func (d *Door) Serve(s *Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.srv = s
}

func (d *Door) server() *Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.srv
}

// Accept takes a connection whose peer is a mount: it is rpc.Accept for that role.
func (d *Door) Accept(c *rpc.Conn) (rpc.Handler, error) {
	if c.PeerRole() != rpc.RoleMount {
		return nil, errs.Newf("remote.Accept", errs.Unsupported, "peer role %d is not a mount", c.PeerRole())
	}
	return &caller{door: d, conn: c}, nil
}

// caller is one connection at a door.
type caller struct {
	door *Door
	conn *rpc.Conn

	mu sync.Mutex
	in *peer // nil until it wanted a session of a node that led
}

var _ rpc.Handler = (*caller)(nil)

// Serve implements rpc.Handler.
func (c *caller) Serve(ctx context.Context, r *rpc.Request) (rpc.Answer, error) {
	if r.Method == mWhere {
		w := c.door.where()
		srv := c.door.server()
		return rpc.Answer{Header: whereAns{w.Nodes, w.Leading, srv != nil && srv.sessions.Leads()}}, nil
	}
	p := c.peer(r.Method == mBegin || r.Method == mResume)
	if p == nil {
		return rpc.Answer{}, errs.Newf("remote.serve", errs.Unavailable, "this node does not lead")
	}
	return p.Serve(ctx, r)
}

func (c *caller) peer(begins bool) *peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in == nil && begins {
		if s := c.door.server(); s != nil {
			c.in = &peer{srv: s, conn: c.conn}
		}
	}
	return c.in
}

// maxNodes is how many nodes a mount remembers.
const maxNodes = 1024

// nodes is what a client knows of the servers, as HOST:PORT. Safe for concurrent use.
type nodes struct {
	mu    sync.Mutex
	given []string // on the command line: they are asked for ever
	told  []string // by the node that was asked last
	lead  string   // which leads, as far as is known; "" if it is not
}

// hostPort is an endpoint without what is around it in a URL.
func hostPort(endpoint string) string {
	_, rest, ok := strings.Cut(endpoint, "://")
	if !ok {
		rest = endpoint
	}
	return strings.ToLower(strings.TrimSuffix(rest, "/"))
}

// learn notes what a node has told.
func (n *nodes) learn(w whereAns) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(w.Nodes) == 0 || len(w.Nodes) > maxNodes {
		return
	}
	n.told = n.told[:0]
	for _, e := range w.Nodes {
		n.told = append(n.told, hostPort(e))
	}
}

// leads notes which node leads, or, "", that the one that was taken for it does not.
func (n *nodes) leads(at string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lead = at
}

// several reports whether there is more than one.
func (n *nodes) several() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.given) > 1 || len(n.told) > 1
}

// all lists the nodes in the order in which to ask them.
func (n *nodes) all() (list []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	add := func(at string) {
		if at != "" && !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	add(n.lead)
	for _, at := range n.given {
		add(at)
	}
	for _, at := range n.told {
		add(at)
	}
	return list
}
