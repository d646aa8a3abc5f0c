package main

import (
	"context"
	"errors"
	"sync/atomic"

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
	var at atomic.Pointer[node.Node] // once it is open
	f.door = remote.NewDoor(func() remote.Where {
		n := at.Load()
		if n == nil {
			return remote.Where{}
		}
		leading, here, _ := n.Where()
		return remote.Where{Nodes: n.Nodes(), Leading: leading, Here: here}
	}, f.log)
	o.Cluster = &node.Cluster{Topology: set.topo, Self: set.self, Peers: p, Views: f}
	failed := make(chan error, 1)
	go func() { failed <- f.http.Serve(in.listener) }()
	n, err := node.Open(ctx, o)
	if err != nil {
		return errors.Join(opening(err), f.http.Close())
	}
	at.Store(n)
	f.tell(flags, in)
	select {
	case err = <-failed:
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

// newPeers are the connections to the other nodes.
func newPeers(set setup, secret rpc.Secret, args []string, o node.Options) (*peers.Peers, error) {
	po := peers.Options{Self: set.self, Args: args, Secret: secret, Program: version, Logger: o.Logger}
	for _, n := range set.topo.Nodes {
		po.Nodes = append(po.Nodes, peers.Node{Name: n.String(), Address: n.Addr()})
	}
	for i := range set.topo.Layout.Pools {
		po.Digests = append(po.Digests, set.topo.DigestOf(i+1))
	}
	return peers.New(po)
}
