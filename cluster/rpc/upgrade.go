package rpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"twofold/internal/errs"
)

const (
	// Path and Protocol are how a connection asks for this protocol on the S3 port.
	Path     = "/twofold/rpc/1"
	Protocol = "twofold-rpc/1"

	maxResponseHead = 8 << 10 // bytes of a server's HTTP answer that a client reads
)

// Dial connects to the server at endpoint ("host:port", or an http:// URL of that)
// and shakes hands. h serves the server's requests on this connection; it may be nil.
// errs.Access: other credentials; errs.Unsupported: not a server of this protocol, or
// no common version; errs.Unavailable: not reachable, starting, or gone again.
func Dial(ctx context.Context, endpoint string, cfg Config, h Handler) (*Conn, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	codec, err := NewCodec()
	if err != nil {
		return nil, err
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/")
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	nc, err := cfg.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, errs.E("rpc.Dial", errs.Unavailable, err)
	}
	// The end of ctx interrupts reads and writes of the handshake.
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	a, err := upgradeClient(nc, addr, cfg)
	if !stop() && err == nil {
		err = errs.E("rpc.Dial", errs.Unavailable, ctx.Err())
	}
	if err != nil {
		_ = nc.Close() // the handshake's error says more
		return nil, err
	}
	c := newConn(nc, cfg, a, codec)
	c.start(h)
	return c, nil
}

func upgradeClient(nc net.Conn, addr string, cfg Config) (agreed, error) {
	const op = "rpc.Dial"
	req := "GET " + Path + " HTTP/1.1\r\nHost: " + addr + "\r\nConnection: Upgrade\r\nUpgrade: " + Protocol + "\r\n\r\n"
	if _, err := io.WriteString(nc, req); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	// The server says nothing after its 101 before it heard our hello, so the
	// buffered reader holds nothing back that is not HTTP.
	br := bufio.NewReader(io.LimitReader(nc, maxResponseHead))
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable:
		return agreed{}, errs.Newf(op, errs.Unavailable, "%s answers %s", addr, resp.Status)
	case resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(resp.Header.Get("Upgrade"), Protocol):
		return agreed{}, errs.Newf(op, errs.Unsupported, "%s is not a twofold server of this protocol (HTTP %s)", addr, resp.Status)
	case br.Buffered() != 0:
		return agreed{}, errs.Newf(op, errs.Unsupported, "%s speaks before it is asked", addr)
	}
	return handshakeClient(nc, cfg.Secret, newHello(cfg.Role, cfg.Limits))
}

// isUpgrade tells our requests from those for a bucket that is named twofold.
func isUpgrade(r *http.Request) bool {
	if r.Method != http.MethodGet || r.URL.Path != Path || !strings.EqualFold(r.Header.Get("Upgrade"), Protocol) {
		return false
	}
	for _, v := range r.Header.Values("Connection") {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}

// hijack takes the connection from net/http and answers 101.
func hijack(w http.ResponseWriter, timeout time.Duration) (net.Conn, error) {
	const op = "rpc.hijack"
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection can't be upgraded", http.StatusBadRequest)
		return nil, errs.E(op, errs.Unsupported, err)
	}
	if rw.Reader.Buffered() != 0 {
		_ = nc.Close() // refused
		return nil, errs.Newf(op, errs.Invalid, "bytes before the upgrade")
	}
	// Also takes away whatever deadlines net/http had set.
	err = nc.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", Protocol)
	}
	if err != nil {
		_ = nc.Close() // refused
		return nil, errs.E(op, errs.Unavailable, err)
	}
	return nc, nil
}
