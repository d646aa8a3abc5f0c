package replica

import (
	"sort"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
)

// Status is the state of the group at a moment.
type Status struct {
	Leader   twofold.DriveID // zero: none
	Term     uint64
	Epoch    uint64
	Voters   int // replicas with a vote, here or lost
	Live     int // of them, those that run; with a Wire those that answer, or, off the leading node, run here
	Bearable int // how many more of them may be lost, one after the other (with a Wire: at once), before it stops
	Quorum   bool
	Outage   string          // why there can be no leader; empty: there can
	Replicas []ReplicaStatus // of this process
	// Members are those of the configuration, wherever they are; with a Wire only.
	Members []MemberStatus
}

// MemberStatus is a member of the group, as it is known here.
type MemberStatus struct {
	Drive         twofold.DriveID
	Voter, Leader bool
	Here          bool // in this process
	// Contact is how long ago it answered the leader. Only the leading process knows;
	// negative: it is another one, or there has been no answer.
	Contact       time.Duration
	Last, Applied uint64 // as in ReplicaStatus, at that moment
}

// ReplicaStatus is the state of one replica.
type ReplicaStatus struct {
	Dir
	State    string // leader, follower, candidate, joining, slow or lost
	Voter    bool
	Last     uint64 // index of the last entry in its log
	Applied  uint64 // index of the last command that its state machine has applied
	Snapshot uint64 // index up to which a snapshot holds everything
	Reason   string // of a lost one
}

// Status reports on the group.
func (g *Group) Status() Status {
	var s Status
	nodes := g.running()
	voters := map[string]bool{}
	if len(nodes) > 0 {
		voters = votersOf(g.configuration(nodes))
	}
	s.Voters = len(voters)
	if l := g.leader(); l != nil {
		s.Leader, s.Term = l.dir.Drive, l.raft.CurrentTerm()
	}
	for _, n := range nodes {
		r := n.status(voters[string(n.sid)])
		if r.Voter {
			s.Live++
		}
		s.Epoch = max(s.Epoch, n.identity().Epoch)
		s.Replicas = append(s.Replicas, r)
	}
	if g.net.wire != nil && len(nodes) > 0 {
		g.members(&s, nodes)
	}
	g.mu.Lock()
	for id, reason := range g.lost {
		s.Replicas = append(s.Replicas, ReplicaStatus{Dir: Dir{Drive: id}, State: "lost", Voter: voters[id.String()], Reason: reason.Error()})
	}
	if g.outage != nil {
		s.Outage = g.outage.Error()
	}
	g.mu.Unlock()
	s.Quorum = s.Voters > 0 && s.Live >= majority(s.Voters)
	s.Bearable = max(s.Live-1, 0)
	if g.net.wire != nil {
		s.Bearable = max(s.Live-majority(max(s.Voters, 1)), 0)
	}
	sort.Slice(s.Replicas, func(i, j int) bool { return s.Replicas[i].Drive.String() < s.Replicas[j].Drive.String() })
	return s
}

// members fills in what is known of all members. Where a replica here leads, those count
// as live that have answered in the time of two promises.
func (g *Group) members(s *Status, nodes []*node) {
	leader, here, term := g.Leadership()
	s.Leader, s.Term = leader, term
	if here {
		s.Live = 0
	}
	for _, srv := range g.configuration(nodes).Servers {
		m := MemberStatus{Drive: driveOf(srv.ID), Voter: srv.Suffrage == raft.Voter, Contact: -1}
		m.Leader = m.Drive == leader
		if n := g.node(m.Drive); n != nil {
			m.Here, m.Last = true, n.raft.LastIndex()
			if cur := n.host.cur.Load(); cur != nil {
				m.Applied = cur.machine.Applied()
			}
		}
		if c, ok := g.contacts.get(m.Drive); here && ok {
			m.Contact = time.Since(c.at)
			if !m.Here {
				m.Last, m.Applied = c.last, c.applied
			}
			if m.Voter && m.Contact < 2*g.net.d {
				s.Live++
			}
		}
		s.Members = append(s.Members, m)
	}
}

func (n *node) status(voter bool) ReplicaStatus {
	r := ReplicaStatus{Dir: n.dir, Voter: voter, Last: n.raft.LastIndex()}
	switch {
	case n.slow.Load():
		r.State = "slow"
	case !voter:
		r.State = "joining"
	case n.raft.State() == raft.Leader:
		r.State = "leader"
	case n.raft.State() == raft.Candidate:
		r.State = "candidate"
	default:
		r.State = "follower"
	}
	if cur := n.host.cur.Load(); cur != nil {
		r.Applied = cur.machine.Applied()
	}
	if m, _ := n.snaps.newest(); m != nil {
		r.Snapshot = m.Index
	}
	return r
}
