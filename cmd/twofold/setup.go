package main

import (
	"context"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"twofold/cluster/topology"
	"twofold/engine/placement"
	"twofold/internal/config"
	"twofold/internal/errs"
)

// setup is what a server's command line and environment say, without a look at a drive.
type setup struct {
	cfg    config.Config
	topo   topology.Topology
	self   int    // the node that this process is, in topo
	listen string // where: HOST:PORT
}

// check validates the command line and the environment: everything that can be
// refused without looking at a drive.
func (f *serverFlags) check(args []string) (setup, error) {
	var s setup
	if len(args) == 0 {
		return s, usage("no drives given. Try: twofold server ./data{1...4}\nSee: twofold server --help")
	}
	var err error
	if s.cfg, err = config.FromEnv(os.LookupEnv); err != nil {
		return s, usage("%w", plain(err))
	}
	if s.topo, err = topology.Parse(args, placement.Classes{Standard: s.cfg.Standard, RRS: s.cfg.RRS}); err != nil {
		return s, usage("%w", plain(err))
	}
	if f.scrub < time.Second {
		return s, usage("--scrub-cycle %v: it is one second (1s) or longer", f.scrub)
	}
	if err := f.findSelf(&s); err != nil {
		return s, err
	}
	if f.mount != "" {
		if err := checkApart(f.mount, s.topo.Drives(s.self)); err != nil {
			return s, err
		}
	}
	return s, f.mountFlags.check()
}

// lookUpTime bounds the look-up of the nodes' names.
const lookUpTime = 10 * time.Second

// findSelf tells which of the nodes this is, and where it listens.
func (f *serverFlags) findSelf(s *setup) error {
	named := s.topo.Nodes[0].Scheme != ""
	if !named {
		if f.node != "" {
			return usage("--node %s: the arguments name no nodes, only directories of this machine", f.node)
		}
		s.listen = f.listenAddress(s.cfg)
		return nil
	}
	if s.topo.Nodes[0].Scheme == "https" {
		return usage("%s: https between nodes comes in a later release; write http, and keep the nodes' network to yourself", s.topo.Nodes[0])
	}
	port, err := f.port(s.topo)
	if err != nil {
		return err
	}
	if f.node != "" {
		s.self, err = s.topo.Named(f.node)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), lookUpTime)
		defer cancel()
		s.self, err = s.topo.Self(port, func(host string) (bool, error) { return topology.Local(ctx, host) })
	}
	switch {
	case errs.Is(err, errs.Unavailable):
		return plain(err)
	case err != nil && f.node != "":
		return usage("--node %w", plain(err))
	case err != nil:
		return usage("%w", plain(err))
	}
	switch me := s.topo.Nodes[s.self]; {
	case f.address != "":
		s.listen = f.address
	case me.Host == "localhost":
		s.listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(me.Port))
	case isLoopback(me.Host): // several nodes can be on one machine, at addresses of their own
		s.listen = me.Addr()
	default:
		s.listen = ":" + strconv.Itoa(me.Port)
	}
	if s.cfg.Root.Default && slices.ContainsFunc(s.topo.Nodes, func(n topology.Node) bool { return !isLoopback(n.Host) }) {
		return usage("a store on several machines needs credentials of its own: set S3_ROOT_USER and S3_ROOT_PASSWORD, the same on every node")
	}
	return nil
}

// port is what this node listens on as far as the command line says: by --address,
// or because all nodes have one.
func (f *serverFlags) port(t topology.Topology) (int, error) {
	if f.address != "" {
		_, p, err := net.SplitHostPort(f.address)
		port, nerr := strconv.Atoi(p)
		if err != nil || nerr != nil {
			return 0, usage("--address %s: it looks like HOST:PORT, or :PORT", f.address)
		}
		return port, nil
	}
	port := t.Nodes[0].Port
	for _, n := range t.Nodes {
		if n.Port != port {
			return topology.DefaultPort, nil
		}
	}
	return port, nil
}

// isLoopback reports whether nobody but this machine reaches a host.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
