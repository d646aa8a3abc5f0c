package history

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// options of a campaign.
type options struct {
	seed     uint64
	duration time.Duration // rounds begin for so long; 0: as many as rounds
	rounds   int
	mounts   int
	nodes    int // 0: one server
	load     load
	perRig   int           // rounds of one server; then there is another one
	limit    time.Duration // of the checker, for one history
	keep     string        // directory for histories that are wrong
	env      []string      // of server and mounts
	script   []string      // the fault of each round, "" for none; empty: as the seed has it
	out      io.Writer
	// planted: a wrong history is what is looked for, and no failure.
	planted bool
}

// counts is what a campaign has done.
type counts struct {
	rounds, checked, timeouts, wrong int
	events, unknown                  int
	kinds                            map[Kind]int
	faults                           map[string]int
	longest                          time.Duration // of a check
}

func (c *counts) String() string {
	var kinds, faults []string
	for _, k := range slices.Sorted(maps.Keys(c.kinds)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", c.kinds[k], k))
	}
	for _, f := range slices.Sorted(maps.Keys(c.faults)) {
		faults = append(faults, fmt.Sprintf("%d %s", c.faults[f], f))
	}
	s := fmt.Sprintf("%d rounds, %d histories of %d operations are in order, %d not decided in time, %d wrong; %d unknown outcomes; longest check %v",
		c.rounds, c.checked, c.events, c.timeouts, c.wrong, c.unknown, c.longest.Round(time.Millisecond))
	if len(faults) > 0 {
		s += "; faults: " + strings.Join(faults, ", ")
	}
	return s + "; operations: " + strings.Join(kinds, ", ")
}

// run is a campaign: rounds on one server after the other. It fails the test at the
// first wrong history.
func run(t *testing.T, o options) *counts {
	c := &counts{kinds: map[Kind]int{}, faults: map[string]int{}}
	fmt.Fprintf(o.out, "history: seed %d, %d nodes, %d mounts with %d clients each, %d clients of S3, faults %v\n", o.seed, max(1, o.nodes), o.mounts, o.load.perMount, o.load.s3, o.load.faults)
	end, said := time.Now().Add(o.duration), time.Now()
	more := func() bool {
		return !t.Failed() && c.wrong == 0 && (o.duration > 0 && time.Now().Before(end) || o.duration == 0 && c.rounds < o.rounds)
	}
	for server := 0; more(); server++ {
		t.Run(fmt.Sprintf("server%d", server), func(t *testing.T) {
			r := newRig(t, rigOptions{
				mounts: o.mounts, nodes: o.nodes, each: 1 + server%2, env: o.env,
				faulty: o.load.faults && server%3 == 1, behind: !o.load.faults || server%3 == 0,
			})
			t.Cleanup(func() {
				if t.Failed() {
					os.MkdirAll(o.keep, 0o755)
					r.keepLogs(filepath.Join(o.keep, fmt.Sprintf("seed-%d-server-%d", o.seed, server)))
				}
			})
			for n := 0; n < o.perRig && more() && !t.Failed(); n++ {
				oneRound(t, r, o, c)
				if time.Since(said) > 10*time.Second {
					said = time.Now()
					fmt.Fprintf(o.out, "history: seed %d: %v\n", o.seed, c)
				}
			}
			fmt.Fprintf(o.out, "history: seed %d: %v\n", o.seed, c)
		})
	}
	return c
}

func oneRound(t *testing.T, r *rig, o options, c *counts) {
	rng := rand.New(rand.NewPCG(o.seed, uint64(c.rounds)))
	l := o.load
	if len(o.script) > 0 {
		l.only = o.script[c.rounds]
		l.faults, l.always = l.only != "", true
	}
	rd := newRound(r, rng, c.rounds, l)
	h, err := rd.run(rng, l)
	if err != nil {
		t.Fatalf("seed %d, round %d: %v", o.seed, c.rounds, err)
	}
	h.Seed, h.Round = o.seed, c.rounds
	c.rounds++
	c.events += len(h.Events)
	c.unknown += rd.rec.unknown
	for _, e := range h.Events {
		c.kinds[e.Op.Kind]++
	}
	if rd.fault != nil {
		c.faults[rd.fault.name]++
	}
	began := time.Now()
	res := h.check(o.limit)
	c.longest = max(c.longest, time.Since(began))
	switch res {
	case porcupine.Ok:
		c.checked++
		if len(rd.rec.strange) > 0 {
			t.Errorf("seed %d, round %d: nothing was broken, and yet: %s", o.seed, h.Round, strings.Join(rd.rec.strange, "; "))
		}
		return
	case porcupine.Unknown:
		// Too much was under way at once. A prefix may be decided, and wrong.
		if h.shortest(o.limit/8) == nil {
			c.timeouts++
			fmt.Fprintf(o.out, "history: seed %d, round %d: %d operations (%s) not decided within %v; unknown: %v\n", o.seed, h.Round, len(h.Events), h.Notes, o.limit, h.unknown())
			return
		}
	}
	c.wrong++
	if o.planted {
		return
	}
	t.Errorf("%s", wrong(h, o))
}

// wrong keeps a wrong history and says where it is.
func wrong(h *History, o options) string {
	files, short, err := h.save(o.keep, o.limit)
	s := fmt.Sprintf("seed %d, round %d (cells of %d bytes, %s): NOT LINEARIZABLE: %d operations have no order. See %s", h.Seed, h.Round, h.Cell, h.Notes, len(h.Events), strings.Join(files, ", "))
	if err != nil {
		s += fmt.Sprintf(" (%v)", err)
	}
	if short != nil {
		s += fmt.Sprintf("\nThe first %d operations have none. The last ones to return; the last of all fits nowhere:\n  %s", len(short.Events), strings.Join(short.tail(16), "\n  "))
	}
	return s
}

// defaultKeep is where wrong histories are kept.
func defaultKeep(tmp string) string { return filepath.Join(tmp, "twofold-history") }
