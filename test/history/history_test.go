package history

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"twofold/internal/plant"
)

func TestMain(m *testing.M) {
	if to := os.Getenv(networkOf); to != "" {
		serveNetwork(to)
	}
	os.Exit(m.Run())
}

// Flags of the campaign; the defaults are the short form. See scripts/history-campaign.
func flags() (c struct {
	duration, limit          *time.Duration
	seed                     *uint64
	nodes                    *int
	mounts, clients, s3      *int
	steps, perServer         *int
	faults                   *bool
	fault, keep, replay, bug *string
}) {
	c.duration = flag.Duration("history.duration", 0, "begin rounds for so long; 0: the short form")
	c.limit = flag.Duration("history.limit", time.Minute, "how long porcupine may take for one history")
	c.seed = flag.Uint64("history.seed", uint64(time.Now().UnixNano()), "seed of everything random but the machine")
	c.nodes = flag.Int("history.nodes", 0, "nodes of the store; 0: one server on four directories")
	c.mounts = flag.Int("history.mounts", 2, "mounts")
	c.clients = flag.Int("history.clients", 2, "clients of each mount")
	c.s3 = flag.Int("history.s3", 3, "clients of S3")
	c.steps = flag.Int("history.steps", 20, "steps of each client in a round")
	c.perServer = flag.Int("history.rounds", 12, "rounds of one server; every other one has drives that can break")
	c.faults = flag.Bool("history.faults", true, "break things in rounds (with -history.duration)")
	c.fault = flag.String("history.fault", "", "only this fault, by its name")
	c.keep = flag.String("history.keep", defaultKeep(os.TempDir()), "where wrong histories are kept")
	c.replay = flag.String("history.replay", "", "check a kept history again")
	c.bug = flag.String("history.plant", "", "run with this bug planted, until it is found (build tag plant)")
	return c
}

var campaign = flags()

func defaults() options {
	return options{
		seed: *campaign.seed, nodes: *campaign.nodes, mounts: *campaign.mounts, perRig: *campaign.perServer, limit: *campaign.limit, keep: *campaign.keep, out: os.Stderr,
		load: load{perMount: *campaign.clients, s3: *campaign.s3, steps: *campaign.steps, maps: true, only: *campaign.fault},
	}
}

// TestBothViewsAreOneHistory: what clients of S3 and of two mounts are answered is one
// history, also over the death of the server and of a mount.
func TestBothViewsAreOneHistory(t *testing.T) {
	if *campaign.replay != "" || *campaign.bug != "" {
		t.Skip("something else was asked for")
	}
	o := defaults()
	if *campaign.duration > 0 {
		o.duration, o.load.faults = *campaign.duration, *campaign.faults
		run(t, o)
		return
	}
	o.rounds, o.limit = 8, 20*time.Second
	c := run(t, o)
	for _, f := range []string{"kill server", "kill mount"} {
		if t.Failed() {
			return
		}
		o.rounds, o.load.faults, o.load.only, o.load.always = 1, true, f, true
		o.seed++
		run(t, o)
	}
	for _, k := range []Kind{Put, Get, Head, Delete, List, Lookup, GetAttr, Read, Write, Create} {
		if c.kinds[k] < 5 {
			t.Errorf("%d %s: too few to test anything", c.kinds[k], k)
		}
	}
	if c.checked == 0 && !t.Failed() {
		t.Error("no history was decided: nothing was tested")
	}
}

// TestNodesAreOneHistory: the same with clients and mounts at four nodes, over the death of
// the one that leads, and while it stands still and another one takes its place.
func TestNodesAreOneHistory(t *testing.T) {
	if *campaign.replay != "" || *campaign.bug != "" || *campaign.duration > 0 {
		t.Skip("something else was asked for")
	}
	o := defaults()
	o.nodes, o.limit, o.perRig = 4, 20*time.Second, 4
	o.script, o.load.steps = []string{"", "kill leader", "stop leader"}, 12
	o.rounds = len(o.script)
	if c := run(t, o); c.checked == 0 && !t.Failed() {
		t.Error("no history was decided: nothing was tested")
	}
}

// TestReplay checks a history again that was kept: after a change of the model.
func TestReplay(t *testing.T) {
	if *campaign.replay == "" {
		t.Skip("no -history.replay")
	}
	h, err := readHistory(*campaign.replay)
	if err != nil {
		t.Fatal(err)
	}
	if res := h.check(*campaign.limit); res != porcupine.Ok {
		t.Error(res, wrong(h, defaults()))
	}
}

// changeOfLeader is the fault that shows a bug of several nodes.
var changeOfLeader = map[plant.Bug]string{plant.LeadsUnproven: "stop leader", plant.NoGrace: "kill leader"}

// TestPlanted: a bug that breaks the promise is found.
func TestPlanted(t *testing.T) {
	if *campaign.bug == "" {
		t.Skip("no -history.plant: see scripts/history-plants")
	}
	if !plant.Is(plant.Bug(*campaign.bug)) {
		t.Fatalf("build with -tags plant, run with TWOFOLD_PLANT=%s and TWOFOLD_TEST_TAGS=plant", *campaign.bug)
	}
	o := defaults()
	o.planted, o.rounds, o.perRig = true, 200, 200
	o.env = []string{"TWOFOLD_PLANT=" + *campaign.bug}
	if f := changeOfLeader[plant.Bug(*campaign.bug)]; f != "" {
		o.nodes, o.load.faults, o.load.only, o.load.always = max(4, o.nodes), true, f, true
	}
	began := time.Now()
	c := run(t, o)
	if c.wrong == 0 {
		t.Errorf("%s was not found in %d rounds", *campaign.bug, c.rounds)
	}
	fmt.Printf("%s: found in round %d, after %d operations and %v\n", *campaign.bug, c.rounds, c.events, time.Since(began).Round(100*time.Millisecond))
}
