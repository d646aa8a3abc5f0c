package node

import (
	"time"

	"twofold"
)

// member is a replica of the group, as the one that leads sees it.
type member struct {
	Drive  twofold.DriveID
	Voter  bool
	Silent time.Duration // nothing was heard of it for so long
}

func (l *Leading) members() []member {
	var out []member
	seen := map[twofold.DriveID]bool{}
	for _, r := range l.n.group.Status().Replicas {
		out = append(out, member{Drive: r.Drive, Voter: r.Voter})
		seen[r.Drive] = true
	}
	for id := range l.made {
		if !seen[id] {
			out = append(out, member{Drive: id, Voter: true})
		}
	}
	return out
}
