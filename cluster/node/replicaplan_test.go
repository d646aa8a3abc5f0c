package node

import (
	"fmt"
	"testing"
	"time"

	"twofold"
	"twofold/engine/placement"
)

// TestPlanReplicas: who gets a metadata replica, and in whose place. Drives are numbered from
// 1; there are two on each node, and all are of one set.
func TestPlanReplicas(t *testing.T) {
	id := func(n int) twofold.DriveID { return twofold.DriveID{15: byte(n)} }
	const gone, away = 6 * time.Minute, time.Minute
	for name, c := range map[string]struct {
		drives  int
		down    []int                 // of them
		now     map[int]int           // position to the drive that is there instead
		members map[int]time.Duration // silent for so long
		want    int
		plan    string
	}{
		"a new store": {drives: 4, members: map[int]time.Duration{1: 0}, want: 4,
			plan: "make 3@1 2@0 4@1 missing 3"},
		"complete": {drives: 8, members: map[int]time.Duration{1: 0, 3: 0, 5: 0}, want: 3, plan: "missing 0"},
		"away for a moment": {drives: 8, down: []int{3}, members: map[int]time.Duration{1: 0, 3: away, 5: 0}, want: 3,
			plan: "missing 0"},
		"gone, and there is another drive": {drives: 8, down: []int{3, 4}, members: map[int]time.Duration{1: 0, 3: gone, 5: 0}, want: 3,
			plan: "make 7@3 for 3 missing 0"},
		"gone, and there is none": {drives: 4, down: []int{3, 4}, members: map[int]time.Duration{1: 0, 2: 0, 3: gone, 4: gone}, want: 4,
			plan: "missing 0"},
		"its drive was replaced": {drives: 4, now: map[int]int{3: 9}, members: map[int]time.Duration{1: 0, 2: 0, 3: away, 4: 0}, want: 4,
			plan: "make 9@1 for 3 missing 0"},
		"it was replaced, and stayed": {drives: 4, members: map[int]time.Duration{1: 0, 2: 0, 3: 0, 4: 0, 9: gone}, want: 4,
			plan: "remove 9 missing 0"},
		"where it is nobody knows": {drives: 8, members: map[int]time.Duration{1: 0, 3: 0, 9: away}, want: 3,
			plan: "missing 0"},
		"a drive that is down gets none": {drives: 4, down: []int{3}, members: map[int]time.Duration{1: 0, 2: 0}, want: 3,
			plan: "make 4@1 missing 1"},
	} {
		t.Run(name, func(t *testing.T) {
			var seats []seat
			at := map[twofold.DriveID][3]int{}
			for i := range c.drives {
				s := seat{placement.Drive{Node: i / 2, Index: i}, id(i + 1), true}
				at[s.id] = position(s.Drive)
				if d, ok := c.now[i+1]; ok {
					s.id = id(d)
				}
				for _, d := range c.down {
					s.usable = s.usable && d != i+1
				}
				seats = append(seats, s)
			}
			var members []member
			for n := range 16 {
				if silent, ok := c.members[n]; ok {
					members = append(members, member{Drive: id(n), Voter: true, Silent: silent})
				}
			}
			p := planReplicas(seats, members, func(d twofold.DriveID) ([3]int, bool) { pos, ok := at[d]; return pos, ok }, c.want)
			got := ""
			for i, m := range p.make {
				if i == 0 {
					got += "make "
				}
				got += fmt.Sprintf("%d@%d ", m.fresh[15], m.node)
				if !m.lost.IsZero() {
					got += fmt.Sprintf("for %d ", m.lost[15])
				}
			}
			if !p.remove.IsZero() {
				got += fmt.Sprintf("remove %d ", p.remove[15])
			}
			if got += fmt.Sprintf("missing %d", p.missing); got != c.plan {
				t.Errorf("%s, want %s", got, c.plan)
			}
		})
	}
}
