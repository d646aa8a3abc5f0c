package volume

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"twofold"
	"twofold/metadata"
)

// The clocks of two nodes may be minutes apart. So that times of the store do not go back when
// another node leads, none is given out that is above a bound in the metadata, and the next
// leader begins at that.

const (
	// clockLead is how far the bound is ahead, and so what a change of leader may put the
	// clock forward: until its own has come there, the next leader's stands nearly still.
	clockLead = 2 * time.Second
	// clockTrust is what two nodes' clocks may differ by, and more: a bound that is further
	// ahead is of a clock that was wrong.
	clockTrust = time.Hour
	// oldTerm is the lease term of versions that did not note it.
	oldTerm = 5 * time.Second
)

// clock gives the times of commands. Safe for concurrent use.
type clock struct {
	wall func() twofold.Time
	kick chan struct{} // has one element while a higher bound is wanted

	mu    sync.Mutex
	last  twofold.Time // the last one that was given
	bound twofold.Time // none above it is given; 0: the wall clock is as it is
}

func newClock(wall func() twofold.Time) *clock {
	if wall == nil {
		wall = twofold.Now
	}
	return &clock{wall: wall, kick: make(chan struct{}, 1)}
}

// now is the time. With a bound it is never lower than one that was given before, by
// whomever.
func (c *clock) now() twofold.Time {
	t := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound == 0 {
		return t
	}
	c.last = min(max(t, c.last+1), max(c.bound, c.last))
	if c.bound-c.last < twofold.Time(clockLead/2) {
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
	return c.last
}

// from begins behind the bound of another leader. It returns the bound that is to be noted.
func (c *clock) from(floor twofold.Time) twofold.Time {
	t := c.wall()
	if floor > t+twofold.Time(clockTrust) {
		floor = t
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = floor
	return max(t, floor) + twofold.Time(clockLead)
}

// next is the bound that is to be noted next.
func (c *clock) next() twofold.Time {
	t := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(t, c.last) + twofold.Time(clockLead)
}

// raise sets a bound that the metadata has.
func (c *clock) raise(bound twofold.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bound = max(c.bound, bound)
}

// now is the time of a command.
func (v *Volume) now() twofold.Time { return v.clock.now() }

// handover is what one leader leaves to the next, in the metadata: 16 bytes, big-endian.
type handover struct {
	bound twofold.Time  // of its clock
	term  time.Duration // for which mounts may believe in its leases
}

const handoverKey = "volume/handover"

func (h handover) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(h.bound))
	return binary.BigEndian.AppendUint64(b, uint64(h.term))
}

func decodeHandover(b []byte) handover {
	if len(b) != 16 {
		return handover{term: oldTerm}
	}
	return handover{twofold.Time(binary.BigEndian.Uint64(b)), time.Duration(binary.BigEndian.Uint64(b[8:]))}
}

// takeOver reads what the leader before has left, and notes what this one does not exceed. The
// session of the one before has ended: it notes nothing any more. It returns how long mounts of
// before the start may believe in their leases.
func (v *Volume) takeOver(ctx context.Context) (term time.Duration, err error) {
	var before handover
	if err := v.Meta.View(ctx, func(w metadata.View) error {
		b, err := w.Config(handoverKey)
		before = decodeHandover(b)
		return err
	}); err != nil {
		return 0, err
	}
	if len(v.expected) == 0 {
		before.term = 0 // nobody believes anything
	}
	term = max(before.term, v.LeaseTerm)
	if term > v.LeaseTerm {
		v.clock.kick <- struct{}{} // note the own one, once the other is over
	}
	bound := v.clock.from(before.bound)
	if err := v.SetConfig(ctx, handoverKey, handover{bound, term}.encode()); err != nil {
		return 0, err
	}
	v.clock.raise(bound)
	return term, nil
}

// keepClock raises the bound as time is given out.
func (v *Volume) keepClock() {
	defer v.wg.Done()
	if v.leases.Await(v.ctx) != nil { // the longer term of a leader before is over by then
		return
	}
	for {
		select {
		case <-v.clock.kick:
		case <-v.ctx.Done():
			return
		}
		bound := v.clock.next()
		if err := v.SetConfig(v.ctx, handoverKey, handover{bound, v.LeaseTerm}.encode()); err != nil {
			v.log.Debug("the clock's bound was not raised", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-v.ctx.Done():
				return
			}
			continue // what is stamped next asks again
		}
		v.clock.raise(bound)
	}
}
