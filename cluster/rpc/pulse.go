package rpc

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pulse is what has crossed a connection by some moment.
type Pulse struct {
	in    uint64 // bytes that came from the peer
	taken uint64 // bytes that the peer's machine has taken
	waits bool   // there are more for it
}

// Pulse takes the pulse.
func (c *Conn) Pulse() Pulse {
	p := Pulse{in: c.read.Load(), taken: c.w.progress.Load(), waits: c.w.writing.Load()}
	if n := queued(c.nc); n > 0 {
		p.taken -= min(p.taken, uint64(n))
		p.waits = true
	}
	return p
}

// Still reports whether nothing has moved since an earlier pulse: nothing came, and nothing that
// waits was taken. Who has asked something in between, and waits for the answer, has a peer that
// is stuck, or not there. On a slow connection that is full something moves.
func (p Pulse) Still(since Pulse) bool {
	return p.in == since.in && (!p.waits || p.taken == since.taken)
}

// queued is how many bytes the kernel has of a connection that the peer's has not acknowledged
// (SIOCOUTQ, tcp(7)); 0 where it is of another kind.
func queued(nc net.Conn) int {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		nc = t.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
		return 0
	}
	if err != nil {
		return 0
	}
	return n
}
