package forward

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// DefaultWait is how long a request waits for a leading node.
const DefaultWait = 10 * time.Second

// Options are what a Handler needs. Where, Here, Secret and Logger are required.
type Options struct {
	// Where says which node leads: its URL, or that it is this one (here), or neither
	// where none is known or it can't be reached. changed is closed when the answer may
	// be another; nil: there is no telling, it is asked again soon. It is called for each
	// request: cheap, and safe for concurrent use.
	Where func() (url string, here bool, changed <-chan struct{})
	// Here serves while this node leads.
	Here   http.Handler
	Secret rpc.Secret // shared by the nodes, for the mark
	Logger *slog.Logger
	// Dial opens connections to the leading node (TLS); nil is plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Wait time.Duration // for a leading node; 0: DefaultWait
}

// Handler is an http.Handler for the requests of a node: served here while it leads, and
// forwarded while another one does. Serve it over HTTP/1. Safe for concurrent use.
type Handler struct {
	opts   Options
	mark   string
	pool   pool
	bufs   sync.Pool // of *[]byte, copyBuffer long
	hostID string    // x-amz-id-2

	stop context.CancelFunc
	wg   sync.WaitGroup
}

var _ http.Handler = (*Handler)(nil)

// copyBuffer is how much is read and written at a time, in bytes.
const copyBuffer = 256 << 10

// New makes a handler, which Close ends. errs.Invalid for bad options.
func New(o Options) (*Handler, error) {
	const op = "forward.New"
	switch {
	case o.Where == nil || o.Here == nil || o.Logger == nil:
		return nil, errs.Newf(op, errs.Invalid, "incomplete options")
	case o.Secret == rpc.Secret{}:
		return nil, errs.Newf(op, errs.Invalid, "no secret")
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	h := &Handler{opts: o, mark: newMark(o.Secret), hostID: newHostID()}
	h.bufs.New = func() any { b := make([]byte, copyBuffer); return &b }
	h.pool.init(o.Dial)
	to, _, _ := o.Where()
	first, _ := address(to)
	h.pool.keep(first) // before the first request gives its connection back
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	h.wg.Go(func() { h.follow(ctx) })
	return h, nil
}

// Close ends connections to other nodes, and with them the requests that are being
// forwarded.
func (h *Handler) Close() {
	h.stop()
	h.wg.Wait()
	h.pool.close()
}

// Requests that run at a node when another one leads are given the time to end by
// themselves: the old one may be there, and answer or cut them off. A node that stopped
// does neither. It is short: the client tries again after a pause of its own, and all of that
// is what a fail-over takes.
const (
	graceOther = 400 * time.Millisecond
	graceNone  = 10 * time.Second // nobody is known to lead
)

// follow cuts off requests that run at a node which does not lead any more.
func (h *Handler) follow(ctx context.Context) {
	last, since, first := "", time.Now(), true
	for {
		to, here, changed := h.opts.Where()
		changed = orSoon(changed)
		grace := graceOther
		if !here && to == "" {
			grace = graceNone
		}
		addr, _ := address(to)
		if addr != last || first {
			last, since, first = addr, time.Now(), false
		}
		h.pool.keep(addr)
		t := time.NewTimer(time.Until(since.Add(grace)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-changed:
			t.Stop()
			continue
		case <-t.C:
		}
		h.pool.cutOthers(addr)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// orSoon is a channel of Where's, or one that is closed a moment later where it gave none.
func orSoon(changed <-chan struct{}) <-chan struct{} {
	if changed != nil {
		return changed
	}
	soon := make(chan struct{})
	time.AfterFunc(pause, func() { close(soon) })
	return soon
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	marked := h.unmark(r)
	_, here, _ := h.opts.Where()
	switch {
	case here:
		h.opts.Here.ServeHTTP(w, r)
	case marked:
		h.elsewhere(w, r)
	default:
		h.forward(w, r)
	}
}

// Outcomes of one attempt.
var (
	errAgain   = errors.New("nothing was done")     // the request can be sent again
	errUnknown = errors.New("sent, and no answer")  // it may have been served
	errClient  = errors.New("the client went away") // nobody waits for an answer
)

// pause is the time between attempts while the same node is said to lead.
const pause = 50 * time.Millisecond

// forward sends a request to whoever leads, until it is answered or the time is over.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request) {
	t := &transfer{h: h, w: w, r: r, rc: http.NewResponseController(w)}
	defer t.free()
	limit := time.NewTimer(h.opts.Wait)
	defer limit.Stop()
	for {
		to, here, changed := h.opts.Where()
		if here {
			t.rewind()
			h.opts.Here.ServeHTTP(w, r)
			return
		}
		var retry <-chan time.Time
		if addr, ok := address(to); ok {
			err := t.try(addr)
			switch {
			case err == nil:
				return
			case errors.Is(err, errClient):
				panic(http.ErrAbortHandler)
			case errors.Is(err, errUnknown):
				h.opts.Logger.Warn("a forwarded request was not answered", slog.String("node", addr),
					slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Any("err", err))
				t.fail(unknownOutcome)
				return
			}
			h.opts.Logger.Debug("a request was not forwarded", slog.String("node", addr), slog.Any("err", err))
			retry = time.After(pause)
		}
		select {
		case <-orSoon(changed):
		case <-retry:
		case <-limit.C:
			t.fail(noLeader)
			return
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// address is where a node's URL is dialled.
func address(to string) (string, bool) {
	if to == "" {
		return "", false
	}
	u, err := url.Parse(to)
	if err != nil || u.Host == "" {
		return "", false
	}
	return u.Host, true
}
