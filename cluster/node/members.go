package node

import (
	"time"

	"twofold"
)

// member is a replica of the group, as the node that leads sees it.
type member struct {
	Drive  twofold.DriveID
	Voter  bool
	Silent time.Duration // nothing was heard of it for so long
}

// members lists the replicas of the group. A node that has just begun to lead has heard of
// nobody for as long as it leads.
func (l *Leading) members() []member {
	var out []member
	for _, s := range l.n.group.Status().Members {
		m := member{Drive: s.Drive, Voter: s.Voter, Silent: time.Since(l.began)}
		switch {
		case s.Here:
			m.Silent = 0
		case s.Contact >= 0:
			m.Silent = min(m.Silent, s.Contact)
		}
		out = append(out, m)
	}
	return out
}
