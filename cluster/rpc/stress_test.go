package rpc

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"twofold/internal/errs"
)

// TestStress has many callers on both ends of one connection, of which some go away
// before their answer comes; every answer is the right one, and buffers of calls
// that returned are left alone.
func TestStress(t *testing.T) {
	var serverSide *Conn
	got := make(chan struct{})
	h := &testHandler{}
	cfg := testConfig(t, RoleNode)
	// Few slots, so that callers wait for them.
	cfg.Limits = Limits{Calls: 6, Urgent: 2, Bytes: 4 << 20, Payload: 1 << 20}
	e := newEndpoint(t, cfg)
	e.accept = func(c *Conn) (Handler, error) { serverSide = c; close(got); return h, nil }
	client, _ := dialTest(t, e)
	<-got
	var wg sync.WaitGroup
	for w := range 16 {
		c := client
		if w%4 == 3 {
			c = serverSide
		}
		wg.Go(func() { stress(t, c, rand.New(rand.NewPCG(uint64(w), 0))) })
	}
	wg.Wait()
	if err := client.Err(); err != nil {
		t.Fatal(err)
	}
	// What callers left is answered in the end, and no slot is left over.
	waitFor(t, func() bool {
		return len(client.slots.calls)+len(client.slots.urgent) == 0 && client.slots.bytes.TryAcquire(cfg.Limits.Bytes)
	})
}

func stress(t *testing.T, c *Conn, rng *rand.Rand) {
	for range 50 {
		size := rng.IntN(100)
		if rng.IntN(4) == 0 {
			size = rng.IntN(1 << 20)
		}
		data := bytes.Repeat([]byte{byte(rng.Int())}, size)
		into := make([]byte, size)
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if rng.IntN(3) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Microsecond)
		}
		var out text
		n, err := c.Call(ctx, &Call{Method: mEcho, Header: text{string(data[:min(size, 20)])}, Payload: [][]byte{data}, Reply: &out, Into: into, Urgent: rng.IntN(5) == 0})
		cancel()
		switch {
		case err == nil:
			if n != size || !bytes.Equal(into, data) {
				t.Errorf("a wrong answer of %d bytes", n)
			}
		case errs.Is(err, errs.Canceled) && errors.Is(err, context.DeadlineExceeded):
			clear(into)
			time.Sleep(time.Duration(rng.IntN(500)) * time.Microsecond)
			if !bytes.Equal(into, make([]byte, size)) {
				t.Error("a buffer was written after its call returned")
			}
		default:
			t.Errorf("%v", err)
		}
	}
}
