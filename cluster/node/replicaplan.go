package node

import (
	"time"

	"twofold"
	"twofold/engine/placement"
)

// replicaLost is for how long nothing must have been heard of a replica before another
// one takes its place: longer than a machine takes to start again.
const replicaLost = 5 * time.Minute

// seat is a position of the layout, with the drive that is there now.
type seat struct {
	placement.Drive
	id     twofold.DriveID // zero: none that is known
	usable bool
}

// replicaPlan is what is to be done about the metadata replicas.
type replicaPlan struct {
	make    []replicaMake
	remove  twofold.DriveID // one that is lost, and that the others don't need; zero: none
	missing int             // replicas with a vote that there are too few now
}

// replicaMake is a replica to be made.
type replicaMake struct {
	fresh twofold.DriveID // on this drive
	node  int             // of this node
	lost  twofold.DriveID // in the place of this one; zero: it is one more
}

// planReplicas decides where replicas are to be made so that there are want, spread over nodes
// first. A member is lost for good when another drive is in its place, or nothing was heard
// of it for replicaLost; it is replaced if there is a usable drive without a replica. known
// is at which position a drive is, or was last.
func planReplicas(seats []seat, members []member, known func(twofold.DriveID) (pos [3]int, ok bool), want int) (p replicaPlan) {
	index := map[[3]int]int{}
	var drives []placement.Drive
	for i, s := range seats {
		index[position(s.Drive)] = i
		drives = append(drives, s.Drive)
	}
	var keep []int // seats that have one
	var lost []twofold.DriveID
	is := map[twofold.DriveID]bool{}
	voters, sound := 0, 0
	for _, m := range members {
		is[m.Drive] = true
		if m.Voter {
			voters++
		}
		pos, ok := known(m.Drive)
		i, planned := index[pos]
		planned = planned && ok
		if m.Silent > replicaLost || planned && !seats[i].id.IsZero() && seats[i].id != m.Drive {
			lost = append(lost, m.Drive)
			continue
		}
		if m.Voter {
			sound++
		}
		if planned {
			keep = append(keep, i)
		}
	}
	free := func(i int) bool { return seats[i].usable && !is[seats[i].id] }
	// Members whose place is not known count as well, so that none is made beside them.
	unplaced := len(members) - len(lost) - len(keep)
	for _, i := range placement.Replicas(drives, keep, max(want-unplaced, len(keep)), free)[len(keep):] {
		m := replicaMake{fresh: seats[i].id, node: seats[i].Node}
		if len(lost) > 0 {
			m.lost, lost = lost[0], lost[1:]
		}
		p.make = append(p.make, m)
	}
	if len(lost) > 0 && sound >= want {
		p.remove = lost[0]
	}
	p.missing = max(want-voters, 0)
	return p
}
