package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"twofold/cluster/info"
	"twofold/test/harness"
)

// adminInfo is what `twofold admin info --json` says at a node, and its exit status.
func adminInfo(t *testing.T, s *harness.Server, endpoints ...string) (in info.Info, status int, err error) {
	t.Helper()
	args := []string{"admin", "info", "--json"}
	for _, e := range append(endpoints, s.URL("")) {
		args = append(args, "--endpoint", e)
	}
	r := s.Program(nil, args...)
	if r.Status != 0 && r.Status != 3 {
		return in, r.Status, fmt.Errorf("status %d: %s", r.Status, r.Stderr)
	}
	if r.Stderr != "" {
		return in, r.Status, fmt.Errorf("standard error: %s", r.Stderr)
	}
	err = json.Unmarshal([]byte(r.Stdout), &in)
	return in, r.Status, err
}

// states counts the drives in each state.
func states(in info.Info) map[string]int {
	n := map[string]int{}
	for _, d := range in.Drives {
		n[d.State]++
	}
	return n
}

// TestAdminInfoOneNode: a store on one node tells of its drives, of one that is lost, and
// of it when it is back.
func TestAdminInfoOneNode(t *testing.T) {
	s := harness.Start(t, 4)
	st := &store{Server: s, t: t, c: s.S3()}
	st.bucket("photos")
	st.put("photos", "first", content(1, 1<<20))

	in, status, err := adminInfo(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if status != 0 || in.Status != info.OK || len(in.Problems) != 0 || !in.Complete {
		t.Errorf("status %d, %s, %q", status, in.Status, in.Problems)
	}
	if len(in.Nodes) != 1 || !in.Nodes[0].Leads || !in.Nodes[0].Up || in.Nodes[0].Version == "" {
		t.Errorf("nodes %+v", in.Nodes)
	}
	if len(in.Drives) != 4 || states(in)[info.DriveOnline] != 4 || in.Drives[2].Path != s.Drives[2] || in.Drives[2].Total == 0 || in.Drives[2].Index != 3 || in.Drives[2].Set != "1/1" {
		t.Errorf("drives %+v", in.Drives)
	}
	if len(in.Sets) != 1 || in.Sets[0] != (info.Set{Set: "1/1", Drives: 4, Parity: 2, Readable: 4, Writable: 4, NeedRead: 2, NeedWrite: 3, CanRead: true, CanWrite: true, BearReads: 2, BearWrites: 1}) {
		t.Errorf("sets %+v", in.Sets)
	}
	if m := in.Metadata; m.Wanted != 4 || m.Live != 4 || len(m.Replicas) != 4 || !m.Quorum || m.Replicas[0].Path == "" {
		t.Errorf("metadata %+v", m)
	}
	if in.Buckets != 1 || in.Capacity.UsableTotal == 0 || in.Capacity.RawTotal < in.Capacity.UsableTotal {
		t.Errorf("%d buckets, capacity %+v", in.Buckets, in.Capacity)
	}
	if len(in.Mounts) != 0 {
		t.Errorf("mounts %+v", in.Mounts)
	}

	away := s.Drives[1] + ".away"
	if err := os.Rename(s.Drives[1], away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drive is told to be lost", func() error {
		in, status, err = adminInfo(t, s)
		if err == nil && (states(in)[info.DriveOffline] != 1 || in.Metadata.Live != 3) {
			err = fmt.Errorf("drives %v, metadata %+v", states(in), in.Metadata)
		}
		return err
	})
	if status != 3 || in.Status != info.Degraded || in.Drives[1].State != info.DriveOffline {
		t.Errorf("status %d, %s, %+v", status, in.Status, in.Drives[1])
	}
	if line := in.Line(); !strings.Contains(line, "1 of 4 drives ("+s.Drives[1]+") is offline") || !strings.Contains(line, "3 of 4 replicas") {
		t.Error(line)
	}
	if in.Sets[0].Readable != 3 || in.Sets[0].BearReads != 1 || in.Sets[0].BearWrites != 0 {
		t.Errorf("sets %+v", in.Sets)
	}
	r := s.Program(nil, "admin", "info", "--endpoint", s.URL(""))
	if r.Status != 3 || r.Stderr != "" || !strings.HasPrefix(r.Stdout, "degraded: 1 of 4 drives (") || !strings.Contains(r.Stdout, "drives: 4: 3 online, 1 offline\n") {
		t.Errorf("status %d, %s\n%s", r.Status, r.Stderr, r.Stdout)
	}
	if err := os.Rename(s.Drives[2], s.Drives[2]+".away"); err != nil { // below what writes need
		t.Fatal(err)
	}
	eventually(t, "the store can only be read", func() error {
		in, status, err = adminInfo(t, s)
		if err == nil && (in.Status != info.ReadOnly || in.Metadata.Live != 2) {
			err = fmt.Errorf("%s", in.Line())
		}
		return err
	})
	if status != 3 || !in.Sets[0].CanRead || in.Sets[0].CanWrite || !strings.HasPrefix(in.Line(), "read-only: no set can be written; 2 of 4 drives (") {
		t.Errorf("status %d, %s, %+v", status, in.Line(), in.Sets)
	}
	for _, d := range s.Drives[1:3] {
		if err := os.Rename(d+".away", d); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "everything is well again", func() error {
		in, _, err = adminInfo(t, s)
		if err == nil && in.Status != info.OK {
			err = fmt.Errorf("%s", in.Line())
		}
		return err
	})
}

// TestAdminInfoNodes: every node tells the same of all nodes, also while one that does not
// lead, or the one that does, is dead; a node that finds no leading one tells what it
// knows.
func TestAdminInfoNodes(t *testing.T) {
	nodes := harness.NewNodes(t, 3, 2)
	url := func(i int) string { return "http://" + nodes[i].Address }

	if err := nodes[0].Launch(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a node tells that it waits for the others", func() error {
		in, status, err := adminInfo(t, nodes[0])
		if err == nil && (status != 3 || in.Status != info.Unavailable || in.Complete || len(in.Nodes) != 3 || in.Nodes[1].Up ||
			!strings.Contains(in.Line(), "this node is starting") || !strings.Contains(in.Line(), "connection refused")) {
			err = fmt.Errorf("status %d, %s", status, in.Line())
		}
		return err
	})
	for _, s := range nodes[1:] {
		if err := s.Launch(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range nodes {
		if err := s.Await(nodesLimit); err != nil {
			t.Fatalf("%s: %v\n%s", s.Address, err, s.Log())
		}
	}

	eventually(t, "every node tells that all is well", func() error {
		for i, s := range nodes {
			in, status, err := adminInfo(t, s)
			if err != nil {
				return err
			}
			if status != 0 || in.Status != info.OK || !in.Complete || len(in.Nodes) != 3 || states(in)[info.DriveOnline] != 6 {
				return fmt.Errorf("node %d: %s, drives %v", i+1, in.Line(), states(in))
			}
			leads := 0
			for j, n := range in.Nodes {
				if n.Name != url(j) || !n.Up || n.Version == "" || n.Uptime < 0 {
					return fmt.Errorf("node %d: %+v", i+1, n)
				}
				if n.Leads {
					leads++
				}
				if n.Leads != (in.AnsweredBy == n.Name) {
					return fmt.Errorf("%s leads, and %s answered", n.Name, in.AnsweredBy)
				}
			}
			for _, r := range in.Metadata.Replicas {
				if r.Node == "" || r.Path == "" || r.Applied == 0 || !r.Voter {
					return fmt.Errorf("replica %+v", r)
				}
			}
			if leads != 1 || len(in.Metadata.Replicas) != in.Metadata.Wanted {
				return fmt.Errorf("%d lead, %+v", leads, in.Metadata)
			}
		}
		return nil
	})

	dead := leader(t, nodes)
	nodes[dead].Kill()
	left := nodes[(dead+1)%3]
	var in info.Info
	var status int
	eventually(t, "another node leads, and tells that one is dead", func() error {
		var err error
		in, status, err = adminInfo(t, left, url(dead)) // it is asked first, and does not answer
		if err == nil && (!in.Complete || in.Nodes[dead].Up || states(in)[info.DriveOffline] != 2) {
			err = fmt.Errorf("%s, %+v", in.Line(), in.Nodes)
		}
		return err
	})
	if status != 3 || in.Status != info.Degraded || !strings.Contains(in.Line(), "1 of 3 nodes ("+url(dead)+" (") {
		t.Errorf("status %d, %s", status, in.Line())
	}
	if strings.Contains(in.Line(), "drives") {
		t.Errorf("the drives of the dead node are told of beside it: %s", in.Line())
	}
	if s := in.Sets[0]; s.Readable != 4 || !s.CanRead || s.Drives != 6 {
		t.Errorf("sets %+v", in.Sets)
	}

	nodes[(dead+2)%3].Kill() // what is left is no majority
	eventually(t, "the last node tells that none leads", func() error {
		var err error
		in, status, err = adminInfo(t, left)
		if err == nil && (in.Complete || in.Nodes[(dead+2)%3].Up) {
			err = fmt.Errorf("%s, %+v", in.Line(), in.Nodes)
		}
		return err
	})
	if status != 3 || in.Status != info.Unavailable || !strings.HasPrefix(in.Line(), "unavailable: no node leads") || in.AnsweredBy != "http://"+left.Address {
		t.Errorf("status %d, %s, by %s", status, in.Line(), in.AnsweredBy)
	}
	if got := states(in); got[info.DriveOnline] != 2 || got[info.DriveUnknown] != 4 {
		t.Errorf("drives %v", got)
	}
	left.Kill()
	if _, status, _ := adminInfo(t, left); status != 1 {
		t.Errorf("status %d of a store that is not there", status)
	}
}
