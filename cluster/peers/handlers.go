package peers

import (
	"context"
	"fmt"
	"sync"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// Handler serves requests of other nodes, each on a goroutine of its own; see
// rpc.Handler for contexts and buffers. node is the number of the node that asks, which
// has proven to have the root credentials and to belong to this store.
type Handler interface {
	Serve(ctx context.Context, node int, r *rpc.Request) (rpc.Answer, error)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, node int, r *rpc.Request) (rpc.Answer, error)

var _ Handler = HandlerFunc(nil)

// Serve implements Handler.
func (f HandlerFunc) Serve(ctx context.Context, node int, r *rpc.Request) (rpc.Answer, error) {
	return f(ctx, node, r)
}

// handlers is who serves which methods. Safe for concurrent use.
type handlers struct {
	mu     sync.RWMutex
	ranges []methodRange // guarded by mu
}

type methodRange struct {
	from, to rpc.Method // to is included
	h        Handler
}

func (hs *handlers) add(from, to rpc.Method, h Handler) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if from > to || from <= lastMethod && to >= firstMethod {
		panic(fmt.Sprintf("peers: methods %d to %d can't be handled", from, to))
	}
	for _, r := range hs.ranges {
		if from <= r.to && to >= r.from {
			panic(fmt.Sprintf("peers: methods %d to %d have a handler", r.from, r.to))
		}
	}
	hs.ranges = append(hs.ranges, methodRange{from, to, h})
}

func (hs *handlers) find(m rpc.Method) (Handler, error) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	for _, r := range hs.ranges {
		if r.from <= m && m <= r.to {
			return r.h, nil
		}
	}
	return nil, errs.Newf("peers.Serve", errs.Unsupported, "unknown method %d", m)
}
