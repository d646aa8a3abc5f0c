package rpc

import (
	"time"

	"twofold/internal/errs"
)

// watch gives the connection up when the peer shows no life, or takes no bytes, for
// PingTimeout. It never writes itself, so a stuck socket does not stop it.
func (c *Conn) watch() {
	tick := time.NewTicker(c.cfg.PingInterval)
	defer tick.Stop()
	var (
		read, written  = c.read.Load(), c.w.progress.Load()
		heard, drained = time.Now(), time.Now()
		pings          uint64
		pong           = make(chan struct{}, 1) // one ping is being written at most
	)
	for {
		select {
		case <-c.done:
			return
		case now := <-tick.C:
			if n := c.read.Load(); n != read {
				read, heard = n, now
			} else {
				pings++
				n := pings
				select {
				case pong <- struct{}{}:
					go func() { c.control(framePing, n); <-pong }()
				default:
				}
			}
			if n := c.w.progress.Load(); n != written || !c.w.writing.Load() {
				written, drained = n, now
			}
			if now.Sub(heard) >= c.cfg.PingTimeout {
				c.fail(errs.Newf("rpc.Conn", errs.Unavailable, "the peer was silent for %v", c.cfg.PingTimeout))
				return
			}
			if now.Sub(drained) >= c.cfg.PingTimeout {
				c.fail(errs.Newf("rpc.Conn", errs.Unavailable, "the peer took no bytes for %v", c.cfg.PingTimeout))
				return
			}
		}
	}
}
