package rpc

import (
	"context"
	"log/slog"
	"net"
	"time"

	"twofold/internal/errs"
)

// Limits are what one end serves at a time. They are told to the peer, which waits
// rather than exceed them.
type Limits struct {
	Calls   int   // concurrent requests; default 1024
	Urgent  int   // concurrent urgent requests beside them; default 256
	Payload int   // bytes of a request's payload; default 16 MiB + 64 KiB
	Bytes   int64 // payload bytes of all requests in service; default 128 MiB
}

const (
	// MaxHeader is the most bytes of a frame's CBOR header.
	MaxHeader = 1 << 20
	// maxPayload bounds what a peer may announce, and an answer's payload.
	maxPayload = 64 << 20
	maxCalls   = 1 << 16
)

func (l Limits) withDefaults() Limits {
	if l.Calls == 0 {
		l.Calls = 1024
	}
	if l.Urgent == 0 {
		l.Urgent = 256
	}
	if l.Payload == 0 {
		l.Payload = 16<<20 + 64<<10
	}
	if l.Bytes == 0 {
		l.Bytes = max(128<<20, int64(l.Payload))
	}
	return l
}

func (l Limits) check() error {
	if l.Calls < 1 || l.Calls > maxCalls || l.Urgent < 1 || l.Urgent > maxCalls ||
		l.Payload < 1 || l.Payload > maxPayload || l.Bytes < int64(l.Payload) {
		return errs.Newf("rpc.Limits", errs.Invalid, "limits out of bounds: %+v", l)
	}
	return nil
}

// Config is what both ends need. Secret, Logger and, for Dial, Role are required.
type Config struct {
	Secret Secret
	Role   Role
	Limits Limits
	Logger *slog.Logger
	// Pool has the buffers of payloads; nil makes one.
	Pool *Pool
	// Dial opens the connection below (TLS, a test's pipe); nil is plain TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	HandshakeTimeout time.Duration // default 10 s
	// PingInterval is how long a connection is quiet before the peer is asked for
	// a sign of life; without one for PingTimeout the connection is given up. So is
	// one that takes no bytes for that long.
	PingInterval time.Duration // default 5 s
	PingTimeout  time.Duration // default 15 s
}

func (c Config) withDefaults() Config {
	c.Limits = c.Limits.withDefaults()
	if c.Pool == nil {
		c.Pool = NewPool()
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = 10 * time.Second
	}
	if c.PingInterval == 0 {
		c.PingInterval = 5 * time.Second
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = 15 * time.Second
	}
	return c
}

func (c Config) check() error {
	switch {
	case c.Secret == Secret{}:
		return errs.Newf("rpc.Config", errs.Invalid, "no secret")
	case !c.Role.known():
		return errs.Newf("rpc.Config", errs.Invalid, "no role")
	case c.Logger == nil:
		return errs.Newf("rpc.Config", errs.Invalid, "no logger")
	case c.PingInterval <= 0 || c.PingTimeout <= c.PingInterval:
		return errs.Newf("rpc.Config", errs.Invalid, "PingTimeout must be longer than PingInterval")
	}
	return c.Limits.check()
}
