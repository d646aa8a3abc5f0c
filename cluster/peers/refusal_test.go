package peers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// TestRefusals: nodes that do not belong together say why, each in a sentence that names
// the other, logged once however often they try.
func TestRefusals(t *testing.T) {
	storeA, storeB := twofold.ClusterID{1}, twofold.ClusterID{2}
	for _, x := range []struct {
		about  string
		change func(o *Options) // of node 1's options
		at0    string           // what node 0 waits for; NODE is node 1's address
		at1    string           // node 1; NODE is node 0's
		logged int              // refusals of who has dialled, by node 1
	}{
		{"other arguments", func(o *Options) {
			o.Digests, o.Args = []string{"another"}, []string{"http://node{1...4}/other", "http://more/data{1...4}"}
		},
			`NODE was started with other arguments: it has "http://node{1...4}/other http://more/data{1...4}", this node has "http://node{1...4}/data": start all nodes with the same`,
			`NODE was started with other arguments: it has "http://node{1...4}/data", this node has "http://node{1...4}/other http://more/data{1...4}": start all nodes with the same`, 1},
		{"another parity", func(o *Options) { o.Digests = []string{"another"} },
			"NODE was started with the same arguments as this node but with another parity (storage classes): start all nodes with the same",
			"NODE was started with the same arguments as this node but with another parity (storage classes): start all nodes with the same", 1},
		{"another store", func(o *Options) { o.Cluster = storeB },
			"the drives of NODE belong to store " + storeB.String() + ", those of this node to store " + storeA.String(),
			"the drives of NODE belong to store " + storeA.String() + ", those of this node to store " + storeB.String(), 1},
		{"a clock ahead", func(o *Options) { o.Now = func() time.Time { return time.Now().Add(20 * time.Minute) } },
			"the clock of NODE is 20m0s ahead of this node's, at most 15m0s is allowed: set the clocks (NTP)",
			"the clock of NODE is 20m0s behind this node's, at most 15m0s is allowed: set the clocks (NTP)", 1},
		{"the same number", func(o *Options) { o.Self = 0 }, // listens at node 1's address
			"NODE says that it is node %0, which this node is: two processes run as the same node",
			"", 2}, // and it has reached itself, where it looked for node 1
		{"other names", func(o *Options) {
			o.Nodes = []Node{o.Nodes[0], {Name: "http://other:9000", Address: "other:9000"}}
		},
			"NODE says that it is node http://other:9000, which is http://NODE here",
			"NODE refuses this node: 127.0.0.1 says that it is node http://other:9000, which is http://%1 here", 0}, // node 0 it knows
		{"other credentials", func(o *Options) { o.Secret = testSecret(t, "another") },
			"NODE has other root credentials than this node (S3_ROOT_USER, S3_ROOT_PASSWORD): start all nodes with the same",
			"NODE has other root credentials than this node (S3_ROOT_USER, S3_ROOT_PASSWORD): start all nodes with the same", 1},
	} {
		t.Run(x.about, func(t *testing.T) {
			ls, names := listen(t, 2)
			px := newProxy(t)
			o0, o1 := options(t, names, 0), options(t, names, 1)
			o0.Cluster = storeA
			o0.Dial = px.dial
			x.change(&o1)
			a, b := serve(t, ls[0], o0), serve(t, ls[1], o1)
			fill := func(s, other string) string {
				return strings.NewReplacer("NODE", other, "%0", names[0].Address, "%1", names[1].Address).Replace(s)
			}
			waitFor(t, func() bool { w := a.Waiting(); return len(w) == 1 && !strings.HasSuffix(w[0], "not tried yet") })
			if got, want := a.Waiting()[0], fill(x.at0, names[1].Address); got != want {
				t.Errorf("node 0 waits:\n%s\nwant:\n%s", got, want)
			}
			if x.at1 != "" {
				waitFor(t, func() bool { w := b.Waiting(); return len(w) == 1 && !strings.HasSuffix(w[0], "not tried yet") })
				if got, want := b.Waiting()[0], fill(x.at1, names[0].Address); got != want {
					t.Errorf("node 1 waits:\n%s\nwant:\n%s", got, want)
				}
			}
			for px.dialled() < 4 { // more attempts are no more lines
				a.links[1].wake()
				time.Sleep(10 * time.Millisecond)
			}
			if n := a.log.count("a node can't be reached"); n != 1 {
				t.Errorf("node 0 has logged it %d times", n)
			}
			if n := b.log.count("refused a "); n != x.logged { // "a node", or "a connection"
				t.Errorf("node 1 has logged the refusal %d times:\n%s", n, b.log.buf.String())
			}
			if _, err := a.who(1, Control); !errs.Is(err, errs.Unavailable) {
				t.Errorf("a call: %v", err)
			}
		})
	}
}

// TestWrongAddress: names that lead elsewhere are found out.
func TestWrongAddress(t *testing.T) {
	ls, names := listen(t, 3)
	o := options(t, names, 0)
	elsewhere := map[string]string{names[1].Address: names[2].Address, names[2].Address: names[0].Address}
	o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, elsewhere[addr])
	}
	a, c := serve(t, ls[0], o), serve(t, ls[2], options(t, names, 2))
	waitFor(t, func() bool {
		w := a.Waiting()
		return strings.HasPrefix(w[0], names[1].Address+" is answered by another node, "+names[2].Address) &&
			strings.HasPrefix(w[1], names[2].Address+" leads to this node itself")
	})
	waitFor(t, func() bool {
		return c.log.count("refused a node", names[0].Address+" has reached it by the name of another one") == 1
	})
}

// TestExpansion: a node that knows a further pool works with those that don't yet, and
// its new nodes wait for them.
func TestExpansion(t *testing.T) {
	ls, names := listen(t, 3)
	o0, o1, o2 := options(t, names[:2], 0), options(t, names, 1), options(t, names, 2)
	o1.Digests = append(o1.Digests, "two pools")
	o2.Digests = o1.Digests
	a, b, c := serve(t, ls[0], o0), serve(t, ls[1], o1), serve(t, ls[2], o2)
	waitFor(t, func() bool { return a.Up(1) && b.Up(0) && b.Up(2) && c.Up(1) })
	waitFor(t, func() bool {
		w := c.Waiting()
		return len(w) == 1 && strings.Contains(w[0], names[0].Address+" refuses this node: ") && strings.Contains(w[0], "of a pool that this node does not know yet")
	})
}

// TestProtocolVersions: builds without a common version say what each speaks.
func TestProtocolVersions(t *testing.T) {
	_, names := listen(t, 2)
	o := options(t, names, 0)
	o.Logger = quiet()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := p.facts()
	f.Node, f.Name, f.Process, f.Program = 1, names[1].Name, twofold.NewUUID(), "v7"
	if why := p.check("b:9000", f, 0); why != "" {
		t.Fatal(why)
	}
	f.Min, f.Max = MaxProtocol+1, MaxProtocol+3
	want := "b:9000 (version v7) speaks the protocol between nodes in versions 2 to 4, this node (version v1) in version 1: upgrade one release at a time"
	if why := p.check("b:9000", f, 0); why != want {
		t.Fatal(why)
	}
}

// TestStoreBecomesKnown: nodes that were fresh when they met part when they learn that
// they belong to different stores.
func TestStoreBecomesKnown(t *testing.T) {
	nodes := cluster(t, 2)
	id := twofold.NewUUID()
	nodes[0].SetCluster(id)
	nodes[1].SetCluster(id)
	waitFor(t, func() bool { st := nodes[0].State(1); return st.Up && st.Epoch == 1 })
	nodes[1].SetCluster(twofold.NewUUID())
	waitFor(t, func() bool {
		w, v := nodes[0].Waiting(), nodes[1].Waiting()
		return len(w) == 1 && strings.Contains(w[0], "belong to store") && len(v) == 1 && strings.Contains(v[0], "belong to store")
	})
}

// TestClocks: how far another clock is ahead is measured, and one that moves away
// later is told of once, and not refused.
func TestClocks(t *testing.T) {
	ls, names := listen(t, 2)
	var ahead atomic.Int64
	ahead.Store(int64(5 * time.Minute))
	o := options(t, names, 1)
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	a := serve(t, ls[0], options(t, names, 0))
	serve(t, ls[1], o)
	waitFor(t, func() bool { return a.Up(1) })
	near := func(want time.Duration) bool { return (a.State(1).Skew - want).Abs() < time.Minute }
	if !near(5 * time.Minute) {
		t.Fatal(a.State(1).Skew)
	}
	ahead.Store(int64(-time.Hour))
	waitFor(t, func() bool { return near(-time.Hour) })
	ahead.Store(int64(-2 * time.Hour))
	waitFor(t, func() bool { return near(-2 * time.Hour) })
	if n := a.log.count("clock has moved away"); n != 1 || !a.Up(1) {
		t.Fatalf("told %d times, up: %v", n, a.Up(1))
	}
}

// TestSkew: half the round trip is the answer's way.
func TestSkew(t *testing.T) {
	sent := time.Unix(1000, 0)
	if d := skew(sent, sent.Add(4*time.Second), time.Unix(1012, 0).UnixNano()); d != 10*time.Second {
		t.Fatal(d)
	}
}

// TestOutsiders: mounts, administrators, and whoever has not said hello reach no
// handler of nodes.
func TestOutsiders(t *testing.T) {
	n := cluster(t, 2)[0]
	addr := n.opts.Nodes[0].Address
	for _, x := range []struct {
		role rpc.Role
		kind errs.Kind
	}{{rpc.RoleMount, errs.Unsupported}, {rpc.RoleAdmin, errs.Unsupported}, {rpc.RoleNode, errs.Access}} {
		c, err := rpc.Dial(t.Context(), addr, rpc.Config{Secret: n.opts.Secret, Role: x.role, Logger: quiet()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, m := range []rpc.Method{mPing, mEcho, mWho} {
			if _, err := c.Call(t.Context(), &rpc.Call{Method: m}); !errs.Is(err, x.kind) {
				t.Errorf("role %d, method %d: %v", x.role, m, err)
			}
		}
		if x.role == rpc.RoleNode {
			continue
		}
		if _, err := c.Call(t.Context(), &rpc.Call{Method: mHello, Header: hello{}, Reply: &welcome{}}); !errs.Is(err, errs.Unsupported) {
			t.Errorf("role %d says hello: %v", x.role, err)
		}
	}
}

// TestOtherRolesAreRefused: also by a server that asks nobody for roles.
func TestOtherRolesAreRefused(t *testing.T) {
	n := cluster(t, 2)[0]
	srv, err := rpc.NewServer(rpc.Config{Secret: n.opts.Secret, Logger: quiet()}, n.Accept)
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(srv.Wrap(http.NotFoundHandler()))
	defer func() { hs.Close(); srv.Close() }()
	for _, role := range []rpc.Role{rpc.RoleMount, rpc.RoleAdmin} {
		c, err := rpc.Dial(t.Context(), hs.URL, rpc.Config{Secret: n.opts.Secret, Role: role, Logger: quiet()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Call(t.Context(), &rpc.Call{Method: mHello, Header: hello{}, Reply: &welcome{}}); !errors.Is(err, rpc.ErrLost) {
			t.Errorf("role %d: %v", role, err)
		}
	}
}

// TestRefusedServesNothing: a node whose hello was refused reaches no handler by going
// on regardless.
func TestRefusedServesNothing(t *testing.T) {
	ls, names := listen(t, 2)
	n := serve(t, ls[0], options(t, names, 0))
	c, err := rpc.Dial(t.Context(), names[0].Address, rpc.Config{Secret: n.opts.Secret, Role: rpc.RoleNode, Logger: quiet()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h := hello{Facts: n.facts(), To: 0, Class: Control}
	h.Facts.Node, h.Facts.Name, h.Facts.Process, h.Facts.Digests = 1, names[1].Name, twofold.NewUUID(), []string{"another"}
	var w welcome
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mHello, Header: h, Reply: &w}); err != nil || w.Refused == "" {
		t.Fatal(w, err)
	}
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mWho, Reply: new(int)}); !errs.Is(err, errs.Access) {
		t.Fatal(err)
	}
	h.Facts.Digests = n.opts.Digests
	w = welcome{}
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mHello, Header: h, Reply: &w}); err != nil || w.Refused != "" {
		t.Fatal(w, err)
	}
	who := 0
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mWho, Reply: &who}); err != nil || who != 1 {
		t.Fatal(who, err)
	}
}

// TestHandleRanges: two handlers for one method, or for this package's own, are a
// programmer's mistake.
func TestHandleRanges(t *testing.T) {
	var hs handlers
	h := HandlerFunc(nil)
	hs.add(120, 149, h)
	for _, r := range [][2]rpc.Method{{149, 150}, {100, 119}, {119, 120}, {90, 200}, {200, 190}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was taken", r)
				}
			}()
			hs.add(r[0], r[1], h)
		}()
	}
	hs.add(150, 150, h)
}
