package info

import (
	"slices"
	"strings"
	"testing"
)

// whole is a store of two nodes with two drives each, in which nothing is wrong.
func whole() *Info {
	in := &Info{
		Complete: true,
		Nodes:    []Node{{Name: "http://n1:9000", Up: true, Version: "1"}, {Name: "http://n2:9000", Up: true, Version: "1"}},
		Pools:    []Pool{{Pool: 1, Arg: "arg", Sets: 1, Drives: 4, Joined: true}},
		Sets:     []Set{{Set: "1/1", Drives: 4, Parity: 2, CanRead: true, CanWrite: true}},
		Metadata: Metadata{Wanted: 4, Voters: 4, Live: 4, Quorum: true},
	}
	for _, n := range in.Nodes {
		for _, p := range []string{"/d1", "/d2"} {
			in.Drives = append(in.Drives, Drive{Node: n.Name, Path: p, Set: "1/1", State: DriveOnline})
		}
	}
	return in
}

// TestJudge: what is wrong is told in the order of how bad it is, and the worst decides.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*Info)
		status Status
		line   string
	}{
		"nothing": {func(*Info) {}, OK, "OK"},
		"a drive": {func(in *Info) { in.Drives[3].State = DriveOffline }, Degraded,
			"degraded: 1 of 4 drives (http://n2:9000/d2) is offline"},
		"a node and its drives": {func(in *Info) {
			in.Nodes[1].Up, in.Nodes[1].Why = false, "n2:9000: no answer"
			in.Drives[2].State, in.Drives[3].State = DriveOffline, DriveOffline
			in.Metadata.Live = 2
		}, Degraded, "degraded: 1 of 2 nodes (http://n2:9000 (no answer)) is down; metadata has 2 of 4 replicas"},
		"healing beside another state": {func(in *Info) {
			in.Drives[0].State, in.Drives[0].Healing = DriveSuspect, true
			in.Drives[1].State, in.Drives[1].Healing = DriveHealing, true
		}, Degraded, "degraded: 1 of 4 drives (http://n1:9000/d1) is slow or erring; 1 of 4 drives (http://n1:9000/d2) is being refilled"},
		"no writes": {func(in *Info) {
			in.Sets[0].CanWrite = false
			in.Drives[0].State, in.Drives[1].State = DriveFull, DriveFull
		}, ReadOnly, "read-only: no set can be written; 2 of 4 drives (http://n1:9000/d1, http://n1:9000/d2) are full"},
		"one of two sets without writes": {func(in *Info) {
			in.Sets = append(in.Sets, Set{Set: "1/2", CanRead: true})
		}, Degraded, "degraded: set 1/2 can't be written"},
		"no reads": {func(in *Info) { in.Sets[0].CanRead, in.Sets[0].CanWrite = false, false }, Unavailable,
			"unavailable: set 1/1 can't be read; no set can be written"},
		"no leader": {func(in *Info) {
			in.Complete, in.Problems = false, []string{"this node is starting"}
			in.Sets, in.Drives, in.Metadata = nil, nil, Metadata{}
		}, Unavailable, "unavailable: no node leads the store; this node is starting"},
		"a leader that is not asked": {func(in *Info) {
			in.Complete, in.Unasked = false, "http://n2:9000 leads the store and can't be asked: unknown method 186"
			in.Sets, in.Drives, in.Metadata = nil, nil, Metadata{}
		}, Degraded, "degraded: http://n2:9000 leads the store and can't be asked: unknown method 186"},
		"a clock":             {func(in *Info) { in.Nodes[1].SkewMillis = -125_400 }, Degraded, "degraded: the clock of node http://n2:9000 (-2m5s) is off"},
		"a clock, by seconds": {func(in *Info) { in.Nodes[1].SkewMillis = 59_000 }, OK, "OK"},
		"a pool being added": {func(in *Info) {
			in.Pools = append(in.Pools, Pool{Pool: 2, Arg: "more", Sets: 1})
			in.Drives = append(in.Drives, Drive{Node: "http://n1:9000", Path: "/new", Set: "2/1", State: DriveOffline})
		}, OK, "OK"},
	} {
		t.Run(name, func(t *testing.T) {
			in := whole()
			c.spoil(in)
			in.Judge()
			if in.Status != c.status || in.Line() != c.line {
				t.Errorf("%s: %s\nwant %s: %s", in.Status, in.Line(), c.status, c.line)
			}
		})
	}
}

// TestJudgeNotes: what is no problem does not make one.
func TestJudgeNotes(t *testing.T) {
	in := whole()
	in.Nodes[1].Version = "2"
	in.Pools = append(in.Pools, Pool{Pool: 2, Arg: "more", Sets: 1})
	in.Judge()
	if in.Status != OK || len(in.Notes) != 2 || !strings.Contains(in.Notes[0], "pool 2 (more) is being added") || in.Notes[1] != "the nodes run 2 versions" {
		t.Errorf("%s, %q", in.Status, in.Notes)
	}
}

// TestManyAreNotNamed: a sentence stays one.
func TestManyAreNotNamed(t *testing.T) {
	in := whole()
	for i := range in.Drives {
		in.Drives[i].State = DriveOffline
	}
	in.Drives = slices.Concat(in.Drives, in.Drives)
	in.Judge()
	want := "8 of 8 drives (http://n1:9000/d1, http://n1:9000/d2, http://n2:9000/d1 and 5 more) are offline"
	if !slices.Equal(in.Problems, []string{want}) {
		t.Errorf("%q", in.Problems)
	}
}
