package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"twofold/cluster/info"
)

// fourByFour is a store of four nodes with n drives each in sets of 8, one node down and
// a drive of another being refilled.
func fourByFour(n int) *info.Info {
	in := &info.Info{Complete: true, AnsweredBy: "http://node1:9000", Store: "6c58d0be-f649-4fb6-9519-29d2b4fc3157", Buckets: 3}
	for i := range 4 {
		in.Nodes = append(in.Nodes, info.Node{Name: fmt.Sprintf("http://node%d:9000", i+1), Up: true, Since: 90061, Version: "1.2.3", Uptime: 90061, SkewMillis: int64(-3 * i), RTTMicros: 412})
	}
	in.Nodes[0].Leads, in.Nodes[0].Leading = true, 3700
	in.Nodes[3].Up, in.Nodes[3].Why, in.Nodes[3].Since = false, "node4:9000: no answer", 75
	sets := 4 * n / 8
	in.Pools = []info.Pool{{Pool: 1, Arg: "x", Sets: sets, Drives: 4 * n, Joined: true}}
	for s := range sets {
		in.Sets = append(in.Sets, info.Set{Set: fmt.Sprint("1/", s+1), Drives: 8, Parity: 4, Readable: 6, Writable: 6, NeedRead: 4, NeedWrite: 5, CanRead: true, CanWrite: true, BearReads: 2, BearWrites: 1})
		for i := range 8 {
			d := info.Drive{Node: in.Nodes[i%4].Name, Path: fmt.Sprint("/data", 2*s+i/4+1), Set: fmt.Sprint("1/", s+1), Index: i + 1, State: info.DriveOnline, Total: 4 << 40, Free: 3 << 40}
			if i%4 == 3 {
				d.State, d.Total, d.Free = info.DriveOffline, 0, 0
			}
			in.Drives = append(in.Drives, d)
		}
	}
	in.Sets[0].Readable = 5
	d := &in.Drives[1]
	d.State, d.Healing, d.Refill = info.DriveHealing, true, &info.Refill{Since: 65, Seen: 9000, Lacking: 1200, Done: 400}
	in.Metadata = info.Metadata{Wanted: 4, Voters: 4, Live: 3, Quorum: true, Term: 7}
	for i := range 4 {
		in.Metadata.Replicas = append(in.Metadata.Replicas, info.Replica{Node: in.Nodes[i].Name, Path: "/data1", Voter: true, Leader: i == 0, Last: 1234567, Applied: 1234567, ContactMillis: int64(120 * i)})
	}
	in.Metadata.Replicas[2].ContactMillis, in.Metadata.Replicas[2].Last = -1, 0
	in.Metadata.Replicas[3].ContactMillis = 75000
	in.Metadata.Replicas[3].Applied, in.Metadata.Replicas[3].Behind = 1234000, 567
	in.Capacity = info.Capacity{RawTotal: 64 << 40, RawFree: 48 << 40, UsableTotal: 32 << 40, UsableFree: 24 << 40}
	in.Healing = info.Healing{Refilling: 1, Healed: 400, HealedBytes: 100 << 20}
	in.Mounts = []info.Mount{
		{Session: 17, Peer: "10.0.0.9:41234", Process: "4711.99@b/n@m", Connected: true, Opens: 2},
		{Session: 18, Process: "4712.99@b/n@m", Silent: 30},
	}
	in.Judge()
	return in
}

// TestInfoText: what a person reads: what is wrong first, columns, nothing wider than a
// terminal.
func TestInfoText(t *testing.T) {
	const want = `degraded: 1 of 4 nodes (http://node4:9000 (no answer)) is down; and 2 more:
  1 of 16 drives (http://node2:9000/data1) is being refilled
  metadata has 3 of 4 replicas

store     6c58d0be-f649-4fb6-9519-29d2b4fc3157
usable    32 TiB, 24 TiB free, 8 TiB used (25%)
raw       64 TiB, 48 TiB free
buckets   3
healing   1 drive being refilled, 400 shards (100 MiB) healed

nodes: 3 of 4 up
  NODE               STATE  FOR    UPTIME  VERSION  CLOCK    RTT
  http://node1:9000  up     1d01h  1d01h   1.2.3        -      -  leads for 1h01m
  http://node2:9000  up     1d01h  1d01h   1.2.3     -3ms  0.4ms
  http://node3:9000  up     1d01h  1d01h   1.2.3     -6ms  0.4ms
  http://node4:9000  down   1m15s  -       1.2.3        -      -

metadata: 3 of 4 replicas answer, bears the loss of 0, term 7
  NODE               DRIVE   STATE   APPLIED  BEHIND  HEARD
  http://node1:9000  /data1  leader  1234567       0     0s
  http://node2:9000  /data1  voter   1234567       0  120ms
  http://node3:9000  /data1  silent        -       -      -
  http://node4:9000  /data1  silent  1234000     567  1m15s

sets: 2
  SET  DRIVES  CODE  READ  NEEDS  BEARS  WRITE  NEEDS  BEARS
  1/1       8  4+4      5      4      2      6      5      1
  1/2       8  4+4      6      4      2      6      5      1

drives: 16: 11 online, 1 healing, 4 offline
  NODE               DRIVE   SET  #  STATE    USED     OF
  http://node1:9000  /data1  1/1  1  online    25%  4 TiB
  http://node2:9000  /data1  1/1  2  healing   25%  4 TiB  400 of 1200 blobs in 1m05s
`
	got := infoText(fourByFour(4), false)
	if !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant to begin with\n%s", got, want)
	}
	if end := `
mounts: 1 of 2 connected
  SESSION  FROM            STATE      HEARD  OPEN  PID
       17  10.0.0.9:41234  connected     0s     2  4711
       18  -               away         30s     0  4712
`; !strings.HasSuffix(got, end) {
		t.Errorf("%s\nwant to end with\n%s", got, end)
	}
	for line := range strings.Lines(got) {
		if utf8.RuneCountInString(line) > 100 {
			t.Errorf("wide: %s", line)
		}
	}
}

// TestInfoTextOfMany: where there are many, sets that are alike are one line, and drives are
// counted that have nothing to tell.
func TestInfoTextOfMany(t *testing.T) {
	in := fourByFour(40)
	got := infoText(in, false)
	if n := strings.Count(got, "\n"); n > 45 {
		t.Errorf("%d lines\n%s", n, got)
	}
	if !strings.Contains(got, "drives: 160: 119 online, 1 healing, 40 offline; 159 are not listed (--all)\n") ||
		!strings.Contains(got, "\n  1/2 and 18 more       8  4+4      6 ") {
		t.Error(got)
	}
	if n := strings.Count(infoText(in, true), " online "); n < 119 {
		t.Errorf("--all lists %d", n)
	}
}

func TestInfoUnits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1023 << 10: "0.999 MiB", 1 << 20: "1 MiB", 1<<40 - 1: "1 TiB", 1<<64 - 1: "16 EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for s, want := range map[int64]string{0: "0s", 59: "59s", 61: "1m01s", 3599: "59m59s", 3600: "1h00m", 86400 * 30: "30d00h"} {
		if got := ago(s); got != want {
			t.Errorf("%d: %s, want %s", s, got, want)
		}
	}
}
