package replica

import (
	"sort"
	"strings"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

// count is what a set of stopped replicas amounts to.
type count struct {
	voters   map[string]bool // every drive that may have a vote
	have     map[string]bool // those of them that are here
	best     int             // index of the one with the best log
	majority bool
	// enough: whatever was committed, by whichever majority, at least one of them
	// has it; so the best log has it.
	enough bool
}

// tally counts votes by the best log's configuration, and by what the replicas were
// told before it changed: a configuration that none of them has in its log yet may
// be in force elsewhere.
func tally(nodes []*node, histories []history) count {
	c := count{voters: map[string]bool{}, have: map[string]bool{}, best: -1}
	for i, h := range histories {
		if c.best < 0 || histories[c.best].last.less(h.last) {
			c.best = i
		}
	}
	if c.best < 0 {
		return c
	}
	here, planned := map[string]bool{}, map[string]bool{}
	for _, n := range nodes {
		here[string(n.sid)] = true
		for _, v := range n.identity().Voters {
			planned[v.String()] = true
		}
	}
	current := votersOf(histories[c.best].config)
	for v := range current {
		planned[v] = true
		c.voters[v] = true
		if here[v] {
			c.have[v] = true
		}
	}
	c.majority = len(current) > 0 && len(c.have) >= majority(len(current))
	c.enough = len(current) > 0 && covers(here, current) && covers(here, planned)
	return c
}

// covers reports whether every majority of voters has one of here among it.
func covers(here, voters map[string]bool) bool {
	n := 0
	for v := range voters {
		if here[v] {
			n++
		}
	}
	return n >= len(voters)-majority(len(voters))+1
}

func majority(n int) int { return n/2 + 1 }

func votersOf(c raft.Configuration) map[string]bool {
	m := map[string]bool{}
	for _, s := range c.Servers {
		if s.Suffrage == raft.Voter {
			m[string(s.ID)] = true
		}
	}
	return m
}

// missing lists the voters that are not here.
func (c count) missing() []string {
	var list []string
	for v := range c.voters {
		if !c.have[v] {
			list = append(list, v)
		}
	}
	sort.Strings(list)
	return list
}

// unavailable says which drives the metadata can't do without.
func (c count) unavailable(dirs []Dir) error {
	names := map[string]string{}
	for _, d := range dirs {
		names[d.Drive.String()] = d.Path
	}
	var list []string
	for _, id := range c.missing() {
		if path := names[id]; path != "" {
			id = path + " (" + id + ")"
		}
		list = append(list, id)
	}
	if len(list) == 0 {
		return errs.Newf("replica", errs.Unavailable, "none of the drives has a usable replica of the metadata: %s", paths(dirs))
	}
	return errs.Newf("replica", errs.Unavailable, "the metadata has %d of its %d replicas, too few to go on: missing are the drives %s",
		len(c.have), len(c.voters), strings.Join(list, ", "))
}

// driveOf is the drive of a server.
func driveOf(id raft.ServerID) twofold.DriveID {
	d, _ := twofold.ParseUUID(string(id))
	return d
}
