package peers

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// TestCalls: each node calls each other one, over both connections, and is known by its
// number.
func TestCalls(t *testing.T) {
	nodes := cluster(t, 3)
	for i, n := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			for _, class := range []Class{Control, Data} {
				if who, err := n.who(j, class); err != nil || who != i {
					t.Fatalf("node %d asked node %d: it is taken for node %d, %v", i, j, who, err)
				}
			}
			st := n.State(j)
			if !n.Up(j) || !st.Up || st.Epoch != 1 || st.Program != "v1" || st.Protocol != MaxProtocol {
				t.Fatalf("%+v", st)
			}
		}
		if !n.Up(i) {
			t.Fatal("a node is not up for itself")
		}
	}
	big := bytes.Repeat([]byte("shard"), 1<<20)
	into := make([]byte, len(big))
	if n, err := nodes[0].Call(t.Context(), 1, Data, &rpc.Call{Method: mEcho, Payload: [][]byte{big}, Into: into}); err != nil || !bytes.Equal(into[:n], big) {
		t.Fatalf("%d bytes came back, %v", n, err)
	}
	for _, bad := range []int{-1, 0, 3} {
		if _, err := nodes[0].who(bad, Control); !errs.Is(err, errs.Invalid) {
			t.Errorf("node %d: %v", bad, err)
		}
	}
	if _, err := nodes[0].Call(t.Context(), 1, Control, &rpc.Call{Method: 999}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("a method that nobody serves: %v", err)
	}
}

// TestRestart: a node that ends is down, with why, and its calls end; when it is back it
// is up again, and known to have been away.
func TestRestart(t *testing.T) {
	nodes := cluster(t, 2)
	res := make(chan error, 1)
	go func() {
		_, err := nodes[0].Call(t.Context(), 1, Data, &rpc.Call{Method: mBlock})
		res <- err
	}()
	waitFor(t, func() bool { return nodes[1].blocking() == 1 })
	changed := nodes[0].Watch()
	nodes[1].stop()
	if err := <-res; !errs.Is(err, errs.Unavailable) || !errors.Is(err, rpc.ErrLost) {
		t.Fatalf("the call in flight: %v", err)
	}
	<-changed
	addr := nodes[1].opts.Nodes[1].Address
	waitFor(t, func() bool {
		w := nodes[0].Waiting()
		return len(w) == 1 && w[0] == addr+": connection refused"
	})
	if _, err := nodes[0].who(1, Control); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("a call to a node that is down: %v", err)
	}
	changed = nodes[0].Watch()
	serve(t, listenAt(t, addr), nodes[1].opts)
	waitFor(t, func() bool { return nodes[0].Up(1) })
	<-changed
	if st := nodes[0].State(1); st.Epoch != 2 {
		t.Fatalf("%+v", st)
	}
	if who, err := nodes[0].who(1, Data); err != nil || who != 0 {
		t.Fatal(who, err)
	}
	if n := nodes[0].log.count("can't be reached", "connection refused"); n != 1 {
		t.Errorf("why it is down was logged %d times", n)
	}
}
