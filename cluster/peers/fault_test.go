package peers

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// through is a cluster of two in which node 0 dials through a proxy.
func through(t *testing.T) ([]*testNode, *proxy) {
	t.Helper()
	px := newProxy(t)
	ls, names := listen(t, 2)
	o := options(t, names, 0)
	o.Dial = px.dial
	nodes := []*testNode{serve(t, ls[0], o), serve(t, ls[1], options(t, names, 1))}
	waitFor(t, func() bool { return nodes[0].Up(1) && nodes[1].Up(0) })
	return nodes, px
}

// TestSilence: a node that no longer answers, on connections that stand, goes down; the
// calls to it end, and so do the requests that it had here. It comes back.
func TestSilence(t *testing.T) {
	nodes, px := through(t)
	to, from := make(chan error, 1), make(chan error, 1)
	block := func(n *testNode, node int, res chan error) {
		_, err := n.Call(t.Context(), node, Data, &rpc.Call{Method: mBlock})
		res <- err
	}
	go block(nodes[0], 1, to)
	go block(nodes[1], 0, from)
	waitFor(t, func() bool { return nodes[0].blocking() == 1 && nodes[1].blocking() == 1 })
	px.set(false, true)
	if err := <-to; !errs.Is(err, errs.Unavailable) || !errors.Is(err, rpc.ErrLost) {
		t.Fatalf("the call in flight: %v", err)
	}
	if st := nodes[0].State(1); st.Up || st.Why != names(nodes)[1]+": no answer" {
		t.Fatalf("behind the end of its call: %+v", st)
	}
	if err := <-from; !errs.Is(err, errs.Unavailable) {
		t.Fatalf("the silent node's own call: %v", err)
	}
	waitFor(t, func() bool { return nodes[0].blocking() == 0 })
	px.set(false, false)
	waitFor(t, func() bool { return nodes[0].State(1).Epoch == 2 })
	if who, err := nodes[0].who(1, Data); err != nil || who != 0 {
		t.Fatal(who, err)
	}
}

func names(nodes []*testNode) []string {
	var out []string
	for _, n := range nodes[0].opts.Nodes {
		out = append(out, n.Address)
	}
	return out
}

// TestOneWay: a node that is reached, and can't reach, serves and is served by halves.
func TestOneWay(t *testing.T) {
	nodes, px := through(t)
	px.set(true, false)
	waitFor(t, func() bool {
		w := nodes[0].Waiting()
		return len(w) == 1 && strings.HasSuffix(w[0], ": connection refused")
	})
	waitFor(t, func() bool { who, err := nodes[1].who(0, Control); return err == nil && who == 1 })
	if nodes[0].Up(1) {
		t.Fatal("up without a way there")
	}
	px.set(false, false)
	waitFor(t, func() bool { return nodes[0].Up(1) })
}

// TestDataAlone: the loss of one connection is the node's: whoever sees it up can use
// both. Whoever has lost a call finds it down, or up anew.
func TestDataAlone(t *testing.T) {
	nodes := cluster(t, 2)
	const callers = 20
	lost := make(chan State, callers)
	for range callers {
		go func() {
			_, err := nodes[0].Call(t.Context(), 1, Data, &rpc.Call{Method: mBlock})
			st := nodes[0].State(1)
			if !errors.Is(err, rpc.ErrLost) {
				t.Errorf("the call: %v", err)
			}
			lost <- st
		}()
	}
	waitFor(t, func() bool { return nodes[1].blocking() == callers })
	nodes[0].links[1].pair.Load().data.Close()
	for range callers {
		if st := <-lost; st.Up && st.Epoch == 1 {
			t.Errorf("behind the loss of a call: %+v", st)
		}
	}
	waitFor(t, func() bool { return nodes[0].State(1).Epoch == 2 })
	if _, err := nodes[0].who(1, Data); err != nil {
		t.Fatal(err)
	}
}

// TestOldConnections: a new run of a node takes the place of an earlier one that ended
// without saying so, and whose requests still run here.
func TestOldConnections(t *testing.T) {
	nodes, px := through(t)
	res := make(chan error, 1)
	go func() {
		_, err := nodes[0].Call(t.Context(), 1, Control, &rpc.Call{Method: mBlock})
		res <- err
	}()
	waitFor(t, func() bool { return nodes[1].blocking() == 1 })
	// Node 0's end is not told to node 1: its connections are lost in the proxy.
	px.set(false, true)
	nodes[0].stop()
	<-res
	o := nodes[0].opts
	o.Dial = nil
	serve(t, listenAt(t, o.Nodes[0].Address), o)
	waitFor(t, func() bool { return nodes[1].blocking() == 0 })
}

// TestStress: calls while nodes are lost in every way return, and everything is up again
// afterwards.
func TestStress(t *testing.T) {
	ls, nodeNames := listen(t, 3)
	var nodes []*testNode
	var proxies []*proxy
	for i := range ls {
		o := options(t, nodeNames, i)
		proxies = append(proxies, newProxy(t))
		o.Dial = proxies[i].dial
		nodes = append(nodes, serve(t, ls[i], o))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, n := range nodes {
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					j := (i + 1 + rand.IntN(2)) % 3
					who, err := n.who(j, Control+Class(rand.IntN(2)))
					if err == nil && who != i {
						t.Errorf("node %d is taken for node %d", i, who)
					}
					if err != nil && !errs.Is(err, errs.Unavailable) && ctx.Err() == nil {
						t.Errorf("node %d to %d: %v", i, j, err)
					}
				}
			})
		}
	}
	for k := range 2 {
		px := proxies[k%3]
		node := (k + 1) % 3
		waitFor(t, func() bool { return nodes[k%3].Up(node) })
		px.set(k%2 == 0, k%2 == 1)
		waitFor(t, func() bool { return !nodes[k%3].Up(node) })
		px.set(false, false)
	}
	for _, n := range nodes {
		waitFor(t, func() bool { return len(n.Waiting()) == 0 })
	}
	cancel()
	wg.Wait()
	waitFor(t, func() bool { // nothing is kept of connections that are gone
		n := nodes[0]
		n.Peers.mu.Lock()
		defer n.Peers.mu.Unlock()
		return len(n.inbound) == 4
	})
}

// TestStoppedWhileWaiting: Close is told to those who wait, and calls end.
func TestStoppedWhileWaiting(t *testing.T) {
	nodes := cluster(t, 2)
	changed := nodes[0].Watch()
	done := make(chan struct{})
	go func() { // who waits for a change is not held up by Close
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			t.Error("the end was not told")
		}
		close(done)
	}()
	nodes[0].stop()
	<-done
	if _, err := nodes[0].who(1, Control); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("a call behind Close: %v", err)
	}
}
