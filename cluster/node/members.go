package node

import (
	"time"

	"twofold"
	"twofold/internal/errs"
)

// member is a replica of the group, as the node that leads sees it.
type member struct {
	Drive  twofold.DriveID
	Voter  bool
	Silent time.Duration // nothing was heard of it for so long
}

// provenMembers are members, of a node that leads for certain. One whose own replica just went
// out knows of no members at all: whoever believed that would have every node make its replica
// anew, and the group would be gone. errs.Unavailable: this node does not lead in the term.
func (l *Leading) provenMembers() ([]member, error) {
	group := l.members()
	if !l.n.leadsIn(l.term) || len(group) == 0 { // in this order
		return nil, errs.Newf("node.members", errs.Unavailable, "this node does not lead the store")
	}
	return group, nil
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
