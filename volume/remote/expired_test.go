package remote

import (
	"context"
	"testing"
	"time"

	"twofold"
)

// TestReadOfAnExpiredSession: what a session reads is cut off when it ends, for its pins
// end with it; the mount hears of it, and its read is answered under another session.
func TestReadOfAnExpiredSession(t *testing.T) {
	cut := make(chan error, 1)
	began := make(chan twofold.SessionID, 1)
	st := newStore(func(s *fakeSession) hook {
		return func(ctx context.Context, name string, args ...any) ([]any, error) {
			if name != "Read" {
				return nil, nil
			}
			select {
			case began <- s.id:
				<-ctx.Done()
				cut <- ctx.Err()
				return nil, ctx.Err()
			default: // the second one
				return []any{copy(args[2].([]byte), "of the second session")}, nil
			}
		}
	})
	n := startNode(t, st)
	m := &mount{}
	c := dialNode(t, n.addr, m)
	p := make([]byte, 100)
	type answer struct {
		n   int
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		n, err := c.Read(t.Context(), 5, 0, p)
		answered <- answer{n, err}
	}()
	first := <-began
	began <- 0 // full: the next Read is not held up
	st.mu.Lock()
	s := st.sessions[first]
	st.mu.Unlock()
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(30 * time.Second):
		t.Fatal("the read goes on after its session's end")
	}
	waitFor(t, "Lost", func() bool { return m.losses() == 1 })
	if a := <-answered; a.err == nil && string(p[:a.n]) != "of the second session" {
		t.Errorf("the read is answered with %q", p[:a.n])
	}
	if c.SessionID() == first {
		t.Error("the session goes on")
	}
}
