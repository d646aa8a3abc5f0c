package main

import (
	"context"
	"net/http"

	"twofold/cluster/forward"
	"twofold/cluster/node"
	"twofold/cluster/peers"
	"twofold/cluster/rpc"
	"twofold/volume/remote"
)

// serveAmong serves as one node of several. The port answers at once, for the nodes need
// each other to start.
func (f *front) serveAmong(ctx context.Context, set setup, secret rpc.Secret, args []string, o node.Options, flags *serverFlags, in *inheritance) error {
	p, err := newPeers(set, secret, args, o)
	if err != nil {
		return err
	}
	f.peers = p
	defer f.calls.Close()
	defer p.Close()
	opened := make(chan struct{}) // closed when f.node is set
	where := func() (leading string, here bool, changed <-chan struct{}) {
		if n := f.node.Load(); n != nil {
			return n.Where()
		}
		return "", false, opened
	}
	away, err := forward.New(forward.Options{Where: where, Here: http.HandlerFunc(f.serveHere), Secret: secret, Logger: f.log})
	if err != nil {
		return err
	}
	defer away.Close()
	f.away = away
	f.door = remote.NewDoor(func() remote.Where {
		leading, _, _ := where()
		return remote.Where{Nodes: urls(set), Leading: leading}
	}, f.log)
	o.Cluster = &node.Cluster{Topology: set.topo, Self: set.self, Peers: p, Views: f}
	f.local = o.Cluster
	failed := make(chan error, 1)
	go func() { failed <- f.http.Serve(in.listener) }()
	n, err := node.Open(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil: // asked to stop while it waited for the others
		return f.http.Close()
	case err != nil:
		f.http.Close()
		return opening(err)
	}
	f.node.Store(n)
	close(opened)
	f.tell(flags, in)
	select {
	case err = <-failed:
	case err = <-n.Failed():
		err = opening(err)
		f.http.Close()
	case <-ctx.Done():
		n.HandOver()
		err = f.drain(in)
	}
	closing, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if cerr := n.Close(closing); err == nil {
		err = cerr
	}
	return err
}

// urls are those of all nodes.
func urls(set setup) (all []string) {
	for _, n := range set.topo.Nodes {
		all = append(all, n.String())
	}
	return all
}

// newPeers are the connections to the other nodes.
func newPeers(set setup, secret rpc.Secret, args []string, o node.Options) (*peers.Peers, error) {
	po := peers.Options{Self: set.self, Args: args, Digests: set.topo.Digests(), Secret: secret, Program: version, Logger: o.Logger}
	for _, n := range set.topo.Nodes {
		po.Nodes = append(po.Nodes, peers.Node{Name: n.String(), Address: n.Addr()})
	}
	return peers.New(po)
}
