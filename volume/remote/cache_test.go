package remote

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"twofold"
	"twofold/volume/api"
)

// TestCachesAreAskedFor: a mount that takes read leases says so in every session and to
// every server, and knows until when they are good; another one gets none.
func TestCachesAreAskedFor(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	caches := func(c *Client) bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		s := st.sessions[c.SessionID()]
		if s == nil {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.caches
	}
	plain := dialNode(t, n.addr, &mount{})
	if caches(plain) || !plain.CachedUntil().IsZero() {
		t.Errorf("a mount that did not ask: %v, until %v", caches(plain), plain.CachedUntil())
	}
	before := time.Now()
	c := dialNode(t, n.addr, &mount{caches: true})
	until := c.CachedUntil()
	if !caches(c) || until.Before(before.Add(time.Minute)) || until.After(time.Now().Add(time.Minute)) {
		t.Errorf("asked at %v: %v, until %v", before, caches(c), until)
	}
	waitFor(t, "a keep-alive moves the end", func() bool { return c.CachedUntil().After(until) })

	st.crash() // the next server knows nothing of either
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	n.srv.mu.Lock()
	clear(n.srv.live)
	n.srv.mu.Unlock()
	l.conn.Close()
	waitFor(t, "it is said again", func() bool { return caches(c) })
}

// TestLapsedLeasesStayLapsed: when a keep-alive is answered after the read leases have
// ended, they do not come to life again: the server may have revoked them.
// The holder is asked to drop them, by way of a new connection.
func TestLapsedLeasesStayLapsed(t *testing.T) {
	n := startNode(t, newStore(newCounter().hook))
	m := &mount{caches: true}
	c := dialNode(t, n.addr, m)
	asks := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.asks
	}
	if asks() != 0 {
		t.Fatal("asked before there was anything to lose")
	}
	c.mu.Lock()
	c.heard = time.Now().Add(-2 * time.Minute) // as if the process had been stopped
	c.mu.Unlock()
	waitFor(t, "the holder hears of it", func() bool { return asks() > 0 })
	waitFor(t, "leases are good again", func() bool { return c.CachedUntil().After(time.Now()) })
}

// TestRevokedLeasesAreDropped: a mount of which the server took the leases away drops them
// before it goes on, though its own clock says that they are good.
func TestRevokedLeasesAreDropped(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	m := &mount{caches: true}
	c := dialNode(t, n.addr, m)
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	s.holder.(interface{ Revoked() }).Revoked()
	waitFor(t, "the holder is asked what it has", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.asks > 0
	})
	if _, err := c.GetAttr(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
}

// TestInvalidateCrosses: what the server takes back arrives, and an answer comes when the
// holder has answered, also over a connection that breaks meanwhile.
func TestInvalidateCrosses(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	var mu sync.Mutex
	var got [][]api.Stale
	answer, asked := make(chan struct{}), make(chan struct{}, 10)
	m := &mount{caches: true, onInvalidate: func(ctx context.Context, stale []api.Stale) error {
		mu.Lock()
		got = append(got, stale)
		mu.Unlock()
		asked <- struct{}{}
		select {
		case <-answer:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	c := dialNode(t, n.addr, m)
	st.mu.Lock()
	s := st.sessions[c.SessionID()]
	st.mu.Unlock()
	stale := []api.Stale{{Ino: 5}, {Ino: 6, Names: []string{"a", "\xff"}}, {Ino: 7, Names: []string{"b"}, Drop: true}}
	done := make(chan error, 1)
	go func() { done <- s.holder.Invalidate(t.Context(), stale) }()
	<-asked
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	l.conn.Close()
	<-asked
	select {
	case err := <-done:
		t.Fatalf("answered for the mount: %v", err)
	default:
	}
	close(answer)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, g := range got {
		if d := cmp.Diff(stale, g); d != "" {
			t.Errorf("sent and received (+) differ:\n%s", d)
		}
	}
}

// TestAttrOfOlderPeers: an Attr without leases is the array of before, which is
// understood, too.
func TestAttrOfOlderPeers(t *testing.T) {
	for _, a := range []api.Attr{
		{Ino: 7, ETag: "x", Version: 9, Mode: 0o644},
		{Ino: 7, ETag: "x", Leased: true},
		{NameLeased: true},
		{Ino: 7, ETag: "x", Leased: true, Home: 9},
		{Ino: 7, Home: 9},
	} {
		b, err := cbor.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		fields := 18
		if a.Leased || a.NameLeased {
			fields = 20
		}
		if a.Home != 0 {
			fields = 21
		}
		var all []any
		if err := cbor.Unmarshal(b, &all); err != nil || len(all) != fields {
			t.Errorf("%+v has %d elements on the wire, want %d (%v)", a, len(all), fields, err)
		}
		var back api.Attr
		if err := cbor.Unmarshal(b, &back); err != nil || back != a {
			t.Errorf("%+v comes back as %+v (%v)", a, back, err)
		}
		if err := cbor.Unmarshal(b, &struct {
			_ struct{} `cbor:",toarray"`
			A twofold.Ino
		}{}); err == nil {
			t.Error("an array of another length is taken")
		}
	}
}

// TestDirsCross: what a change has made of directories comes back with it, to who wants to
// know; an answer that tells of none, as an older server's, is one as well.
func TestDirsCross(t *testing.T) {
	var tell []api.Attr // set before each call
	asked := false
	st := newStore(func(*fakeSession) hook {
		return func(ctx context.Context, name string, args ...any) ([]any, error) {
			asked = api.DirsOf(ctx) != nil
			api.DirsOf(ctx).Add(tell...)
			return nil, nil
		}
	})
	c := dialNode(t, startNode(t, st).addr, &mount{})
	for name, call := range map[string]func(ctx context.Context) error{
		"Create": func(ctx context.Context) error {
			_, _, err := c.Create(ctx, 5, "a", api.Create{Type: 1})
			return err
		},
		"Unlink": func(ctx context.Context) error { return c.Unlink(ctx, 5, "a") },
		"Rmdir":  func(ctx context.Context) error { return c.Rmdir(ctx, 5, "a") },
		"Rename": func(ctx context.Context) error { return c.Rename(ctx, 5, "a", 6, "b", 0) },
	} {
		for _, tell = range [][]api.Attr{nil, {{Ino: 5, Leased: true, Mtime: 3}, {Ino: 6, Leased: true}}} {
			ctx, dirs := api.WithDirs(t.Context())
			if err := call(ctx); err != nil || !asked {
				t.Fatalf("%s: %v, asked %v", name, err, asked)
			}
			if d := cmp.Diff(tell, dirs.Attrs()); d != "" {
				t.Errorf("%s: sent and received (+) differ:\n%s", name, d)
			}
			if err := call(t.Context()); err != nil || asked {
				t.Fatalf("%s for nobody: %v, asked %v", name, err, asked)
			}
		}
	}
}
