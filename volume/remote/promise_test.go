package remote

import (
	"context"
	"testing"

	"twofold/volume/api"
)

// TestPromiseIsCounted: a server without memory is told what is left of the promises
// that the one before gave.
func TestPromiseIsCounted(t *testing.T) {
	st := newStore(func(*fakeSession) hook {
		return func(_ context.Context, name string, args ...any) ([]any, error) {
			if name == "Promise" {
				return []any{args[0].(int64) / 2}, nil
			}
			return nil, nil
		}
	})
	n := startNode(t, st)
	c := dialNode(t, n.addr, &mount{})
	promise := func(n int64) {
		t.Helper()
		if got, err := c.Promise(t.Context(), n); err != nil || got != n/2 {
			t.Fatalf("granted %d, %v", got, err)
		}
	}
	restart := func(want int64) {
		t.Helper()
		n.kill()
		st.crash()
		n.start()
		if _, err := c.GetAttr(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		if got := st.sessions[c.SessionID()].held.Promised; got != want {
			t.Fatalf("the new server is told of %d bytes, not %d", got, want)
		}
	}
	restart(0)
	promise(1000)
	promise(200)
	w := api.Write{Token: 1, Segments: []api.Segment{{Off: 9, Data: make([]byte, 50)}, {Off: 99, Data: make([]byte, 7)}}, Size: 106}
	if _, err := c.Write(t.Context(), 5, w); err != nil {
		t.Fatal(err)
	}
	restart(600 - 57)
	promise(2 * (1000 - 543))
	restart(1000)
	promise(0)
	restart(0)
}
