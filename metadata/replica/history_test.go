package replica

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"twofold/internal/errs"
	"twofold/metadata/kv"
)

// counterModel is a counter: increment returns what it was, read what it is.
var counterModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		n, out := state.(int), output.(int)
		if input.(string) == "read" {
			return out == n, n
		}
		return out < 0 || out == n, n + 1 // -1: not known
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprint(in, " -> ", out)
	},
}

// TestLinearizable cuts leaders off again and again and checks the history of
// increments and reads.
func TestLinearizable(t *testing.T) {
	g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true, HeartbeatTimeout: 250 * time.Millisecond})
	var mu sync.Mutex
	var history []porcupine.Operation
	start := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for client := range 6 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				op := porcupine.Operation{ClientId: client, Input: "read", Call: int64(time.Since(start))}
				unknown := false
				if client%2 == 0 {
					op.Input = "incr"
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+rand.Intn(2000))*time.Millisecond)
					res, err := g.Apply(ctx, incr("n"))
					cancel()
					switch {
					case err == nil:
						op.Output = int(res.ID)
					case errs.Is(err, errs.UnknownOutcome):
						op.Output, unknown = -1, true
					default:
						continue // certainly not done
					}
				} else {
					op.Output = read(t, g, "+n")
				}
				op.Return = int64(time.Since(start))
				if unknown {
					op.Return = int64(time.Hour)
					client += 1000 // a client waits for its answers; this one never gets one
				}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
				time.Sleep(time.Duration(rand.Intn(3)) * time.Millisecond)
			}
		})
	}
	cuts := 0
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		time.Sleep(time.Duration(50+rand.Intn(200)) * time.Millisecond)
		l := g.leader()
		if l == nil {
			continue
		}
		cuts++
		l.port.cut()
		if cuts%2 == 0 {
			g.elect(g.running())
		}
		time.Sleep(time.Duration(rand.Intn(700)) * time.Millisecond)
		l.port.mend()
	}
	close(stop)
	wg.Wait()
	t.Logf("%d operations, %d cuts", len(history), cuts)
	if cuts < 5 {
		t.Error("the leader was hardly ever cut off")
	}
	if res := porcupine.CheckOperationsTimeout(counterModel, history, 20*time.Second); res != porcupine.Ok {
		t.Errorf("the history is %s", res)
	}
	wait(t, 10*time.Second, "a leader", settled(g, 4))
	sameState(t, g)
}

// sameState waits until every replica has applied the same, and compares the bytes
// of their indexes.
func sameState(t *testing.T, g *Group) {
	t.Helper()
	if _, err := g.Apply(context.Background(), set("flush", "")); err != nil {
		t.Fatal(err)
	}
	l := g.leader()
	want := content(t, l)
	for _, n := range g.running() {
		wait(t, 10*time.Second, "the replicas have applied the same", func() bool {
			return n.host.cur.Load().machine.Applied() >= l.host.cur.Load().machine.Applied()
		})
		if got := content(t, n); !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes of state, the leader %d", n.dir.Path, len(got), len(want))
		}
	}
}

func content(t *testing.T, n *node) (b []byte) {
	t.Helper()
	err := n.host.cur.Load().store.View(func(r kv.Reader) error {
		return r.Scan(nil, nil, func(k, v []byte) (bool, error) {
			b = append(append(append(append(b, k...), '='), v...), '\n')
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
