package cluster

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Link is how packets of one direction between two nodes fare. The zero value is a
// wire without faults.
type Link struct {
	Cut    bool          // nothing passes, and nobody is told
	Delay  time.Duration // each packet is so much later; the order stays
	Jitter time.Duration // up to so much more
	Loss   float64       // share of packets that is dropped
}

// direction is from one port of the switch to another.
type direction struct{ from, to int }

// Switch passes packets between the tun devices of nodes. Its ports are numbered as
// the nodes are. Safe for concurrent use.
type Switch struct {
	ports  map[netip.Addr]int // fixed after newSwitch, as is tuns
	tuns   []*os.File
	lines  map[direction]*line
	closed chan struct{}
	wg     sync.WaitGroup
}

// line is one direction.
type line struct {
	link    atomic.Pointer[Link]
	passed  atomic.Int64 // packets
	dropped atomic.Int64
	late    chan latePacket // those that are delayed, in order
}

type latePacket struct {
	at time.Time
	b  []byte
}

// Most packets of a direction that are under way; more are dropped (as by a router
// whose buffers are full).
const mostLate = 4096

// newSwitch takes over the devices; addrs[i] is on the far side of tuns[i].
func newSwitch(addrs []netip.Addr, tuns []*os.File) *Switch {
	s := &Switch{ports: map[netip.Addr]int{}, tuns: tuns, lines: map[direction]*line{}, closed: make(chan struct{})}
	for i, a := range addrs {
		s.ports[a] = i
		for j := range addrs {
			if i != j {
				l := &line{late: make(chan latePacket, mostLate)}
				l.link.Store(&Link{})
				s.lines[direction{i, j}] = l
				s.wg.Go(func() { s.deliverLate(l, j) })
			}
		}
	}
	for i := range tuns {
		s.wg.Go(func() { s.read(i) })
	}
	return s
}

// read passes on what a node sends until the device is closed.
func (s *Switch) read(from int) {
	b := make([]byte, 1<<16)
	for {
		n, err := s.tuns[from].Read(b)
		if err != nil {
			return
		}
		if n < 20 || b[0]>>4 != 4 { // IPv4 alone; kernels send IPv6 router solicitations unasked
			continue
		}
		to, ok := s.ports[netip.AddrFrom4([4]byte(b[16:20]))] // RFC 791 section 3.1: destination address
		if !ok || to == from {
			continue
		}
		s.pass(s.lines[direction{from, to}], to, b[:n])
	}
}

// pass does what the link says with a packet; it does not keep b.
func (s *Switch) pass(l *line, to int, b []byte) {
	link := l.link.Load()
	if link.Cut || link.Loss > 0 && rand.Float64() < link.Loss {
		l.dropped.Add(1)
		return
	}
	if link.Delay == 0 && link.Jitter == 0 && len(l.late) == 0 {
		l.passed.Add(1)
		s.tuns[to].Write(b) // into the node's network stack; one that is gone needs no packets
		return
	}
	late := link.Delay
	if link.Jitter > 0 {
		late += rand.N(link.Jitter)
	}
	select {
	case l.late <- latePacket{time.Now().Add(late), append([]byte(nil), b...)}:
		l.passed.Add(1)
	default:
		l.dropped.Add(1)
	}
}

func (s *Switch) deliverLate(l *line, to int) {
	for {
		select {
		case p := <-l.late:
			select {
			case <-time.After(time.Until(p.at)):
			case <-s.closed:
				return
			}
			// A cut wire has lost what was on it.
			if l.link.Load().Cut {
				l.dropped.Add(1)
				continue
			}
			s.tuns[to].Write(p.b)
		case <-s.closed:
			return
		}
	}
}

// Set makes the direction from one node to another what link says.
func (s *Switch) Set(from, to int, link Link) { s.lines[direction{from, to}].link.Store(&link) }

// Both is Set for both directions.
func (s *Switch) Both(a, b int, link Link) {
	s.Set(a, b, link)
	s.Set(b, a, link)
}

// Isolate cuts a node off from all others, clients too.
func (s *Switch) Isolate(n int) {
	for d, l := range s.lines {
		if d.from == n || d.to == n {
			l.link.Store(&Link{Cut: true})
		}
	}
}

// Partition cuts all links between nodes of different sides. A node on no side keeps
// its links.
func (s *Switch) Partition(sides ...[]int) {
	side := map[int]int{}
	for i, nodes := range sides {
		for _, n := range nodes {
			side[n] = i + 1
		}
	}
	for d, l := range s.lines {
		if a, b := side[d.from], side[d.to]; a != 0 && b != 0 && a != b {
			l.link.Store(&Link{Cut: true})
		}
	}
}

// All makes every link what link says; All(Link{}) ends all faults.
func (s *Switch) All(link Link) {
	for _, l := range s.lines {
		l.link.Store(&link)
	}
}

// Packets is how many were passed on and dropped in a direction.
func (s *Switch) Packets(from, to int) (passed, dropped int64) {
	l := s.lines[direction{from, to}]
	return l.passed.Load(), l.dropped.Load()
}

func (s *Switch) close() {
	close(s.closed)
	for _, f := range s.tuns {
		f.Close()
	}
	s.wg.Wait()
}
