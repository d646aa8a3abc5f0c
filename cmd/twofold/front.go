package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"twofold/admin"
	"twofold/cluster/info"
	"twofold/cluster/node"
	"twofold/cluster/peers"
	"twofold/cluster/rpc"
	"twofold/internal/config"
	"twofold/internal/errs"
	"twofold/s3"
	"twofold/s3/sigv4"
	"twofold/volume/remote"
)

// front is what a server answers with on its one port: S3 requests, and connections of
// mounts, operators and other nodes. The store behind it is open where it is led; a node
// that does not lead passes S3 requests on to the one that does, and tells mounts
// where that is.
type front struct {
	cfg   config.Config
	log   *slog.Logger
	peers *peers.Peers // nil: the store is on this node alone
	// Where peers are, and set before anything is served: mounts' and S3 clients' way to
	// the node that leads.
	door  *remote.Door
	away  http.Handler
	node  atomic.Pointer[node.Node] // set when it has met the others
	calls *rpc.Server
	// operators are answered at every node, also before it has met the others.
	operators *admin.Server
	local     *node.Cluster // of a store over several nodes: what is known before node is
	http      *http.Server
	cur       atomic.Pointer[views]
	past      *views // between Unlead and Closed
}

// views are the store's two views, while it is open here, and the store for operators.
type views struct {
	s3      *s3.Server
	mounts  *remote.Server
	leading *node.Leading
}

var _ node.Views = (*front)(nil)

func newFront(cfg config.Config, log *slog.Logger, secret rpc.Secret) (*front, error) {
	f := &front{cfg: cfg, log: log}
	f.operators = admin.NewServer(admin.Options{Store: f.store, Info: f.info, Logger: log})
	var err error
	f.calls, err = rpc.NewServer(rpc.Config{Secret: secret, Logger: log}, f.accept)
	if err != nil {
		return nil, err
	}
	f.http = s3.HTTPServer(f.calls.Wrap(http.HandlerFunc(f.serveS3)), log)
	return f, nil
}

// Lead implements node.Views.
func (f *front) Lead(l *node.Leading) {
	v := &views{
		s3: s3.New(s3.Config{
			Volume:      l.Volume(),
			Credentials: rootCredentials{f.cfg.Root},
			Region:      f.cfg.Region, Domains: f.cfg.Domains, Logger: f.log,
		}),
		mounts:  remote.NewServer(l.Mounts(), f.log),
		leading: l,
	}
	f.cur.Store(v)
	if f.door != nil {
		f.door.Serve(v.mounts)
	}
}

// Unlead implements node.Views.
func (f *front) Unlead(*node.Leading) {
	if f.door != nil {
		f.door.Serve(nil)
	}
	f.past = f.cur.Swap(nil)
}

// Closed implements node.Views. Mounts are not answered any more; S3 requests fail by
// themselves, because the volume has ended.
func (f *front) Closed(*node.Leading) {
	if f.past == nil {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	f.past.mounts.Close(over)
	f.past.s3.Close()
	f.past = nil
}

// accept takes a connection by its peer's role.
func (f *front) accept(c *rpc.Conn) (rpc.Handler, error) {
	v := f.cur.Load()
	switch {
	case c.PeerRole() == rpc.RoleNode && f.peers != nil:
		return f.peers.Accept(c)
	case c.PeerRole() == rpc.RoleMount && f.door != nil:
		return f.door.Accept(c)
	case c.PeerRole() == rpc.RoleAdmin:
		return f.operators.Accept(c)
	case v == nil:
		return elsewhere{f}, nil
	}
	return v.mounts.Accept(c)
}

// store is what operators change, where it is open here.
func (f *front) store() (admin.Store, error) {
	if v := f.cur.Load(); v != nil {
		return v.leading.Volume(), nil
	}
	return nil, f.elsewhere()
}

// info is how the store is, for operators.
func (f *front) info(ctx context.Context) (*info.Info, error) {
	n := f.node.Load()
	if n == nil && f.local != nil {
		in := f.local.Info()
		in.Problems = append(in.Problems, "this node is starting")
		in.Judge()
		return in, nil
	}
	if n == nil {
		return nil, f.elsewhere()
	}
	return n.Info(ctx)
}

// elsewhere answers who comes while the store is not open.
type elsewhere struct{ f *front }

// Serve implements rpc.Handler.
func (e elsewhere) Serve(context.Context, *rpc.Request) (rpc.Answer, error) {
	return rpc.Answer{}, e.f.elsewhere()
}

// elsewhere says where the store is open, where that is not here.
func (f *front) elsewhere() error {
	const op = "server.accept"
	if n := f.node.Load(); n != nil && f.peers != nil {
		if url, _, _ := n.Where(); url != "" {
			return errs.Newf(op, errs.Unavailable, "%s leads the store now: give --endpoint %s", url, url)
		}
	}
	return errs.Newf(op, errs.Unavailable, "no node leads the store now; try again")
}

// serveS3 answers S3 requests, or has the node that leads answer them.
func (f *front) serveS3(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.peers == nil, f.node.Load() == nil: // or it has not met the others yet
		f.serveHere(w, r)
	default:
		f.away.ServeHTTP(w, r)
	}
}

// serveHere answers where the store is open here.
func (f *front) serveHere(w http.ResponseWriter, r *http.Request) {
	if v := f.cur.Load(); v != nil {
		v.s3.ServeHTTP(w, r)
		return
	}
	notServing(w, r)
}

// notServing is S3's answer while there is no store: clients try again.
func notServing(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Connection", "close") // its body was not read
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method != http.MethodHead {
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<Error><Code>SlowDown</Code><Message>The store is starting. Please try again.</Message></Error>`)
	}
}

// drain lets what is under way end, and ends the rest.
func (f *front) drain(in *inheritance) error {
	f.log.Info("draining requests")
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	f.http.RegisterOnShutdown(func() { refuse(in.socket) }) // the supervisor's descriptor too
	err := f.http.Shutdown(drain)
	if v := f.cur.Load(); v != nil {
		v.mounts.Close(drain)
	}
	if f.peers == nil {
		f.calls.Close()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		f.log.Warn("requests that did not end in time were cut off", "after", drainTimeout)
		return f.http.Close()
	}
	return err
}

// rootCredentials are the only ones until there are users.
type rootCredentials struct{ config.Credentials }

var _ sigv4.Credentials = rootCredentials{}

// Lookup implements sigv4.Credentials.
func (r rootCredentials) Lookup(accessKey string) (string, bool) {
	return r.SecretKey.Reveal(), accessKey == r.AccessKey
}

// dialable is an address that this machine reaches the listener by.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if t.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
	}
	return t.String()
}

// tell says that the store is served, to the log, to a person who asked for hints, and
// to the supervisor.
func (f *front) tell(flags *serverFlags, in *inheritance) {
	address := dialable(in.listener.Addr())
	f.log.Info("serving", "address", address, "buckets", "http://"+address+"/")
	if flags.hints && !in.afterCrash { // they were printed before the crash
		mount := flags.mount
		if abs, err := filepath.Abs(mount); err == nil && mount != "" {
			mount = abs
		}
		fmt.Fprint(os.Stderr, hintText(f.cfg, address, mount))
	}
	in.tellReady("http://" + address)
}
