package info

import (
	"fmt"
	"strings"
	"time"
)

// maxSkew is from where on a clock that is off is a problem: far below what nodes refuse
// each other for (15 minutes), and far above what NTP leaves.
const maxSkew = time.Minute

// Judge fills in Status, Problems and Notes from the facts.
func (in *Info) Judge() {
	j := &judge{in: in, status: OK}
	j.leading()
	j.sets()
	j.nodes()
	j.drives()
	j.metadata()
	j.notes()
	in.Status = j.status
	in.Problems = append(append(j.bad, in.Problems...), j.rest...)
	if len(in.Problems) > 0 && in.Status == OK {
		in.Status = Degraded
	}
}

// Line says how the store is, in a line.
func (in *Info) Line() string {
	s := string(in.Status)
	if in.Status == OK {
		s = "OK"
	}
	if len(in.Problems) == 0 {
		return s
	}
	return s + ": " + strings.Join(in.Problems, "; ")
}

// judge collects what is wrong.
type judge struct {
	in        *Info
	status    Status
	bad, rest []string // bad: that something can't be read or written
}

// grave notes that something can't be done. A worse status stays.
func (j *judge) grave(s Status, format string, args ...any) {
	if s == Unavailable || j.status != Unavailable {
		j.status = s
	}
	j.bad = append(j.bad, fmt.Sprintf(format, args...))
}

// less notes that something bears less than it should.
func (j *judge) less(format string, args ...any) {
	if j.status == OK {
		j.status = Degraded
	}
	j.rest = append(j.rest, fmt.Sprintf(format, args...))
}

func (j *judge) leading() {
	if !j.in.Complete && j.in.Unasked != "" { // it may be as well as can be
		j.less("%s", j.in.Unasked)
	} else if !j.in.Complete {
		j.grave(Unavailable, "no node leads the store")
	} else if m := j.in.Metadata; m.Outage != "" {
		j.grave(Unavailable, "%s", m.Outage)
	}
}

// sets tells where objects can't be read or written. New objects go to any set.
func (j *judge) sets() {
	var unread, unwritten []string
	for _, s := range j.in.Sets {
		if !s.CanRead {
			unread = append(unread, s.Set)
		}
		if !s.CanWrite {
			unwritten = append(unwritten, s.Set)
		}
	}
	if len(unread) > 0 {
		j.grave(Unavailable, "%s can't be read", some("set", len(j.in.Sets), unread))
	}
	switch n := len(unwritten); {
	case n > 0 && n == len(j.in.Sets):
		j.grave(ReadOnly, "no set can be written")
	case n > 0:
		j.less("%s can't be written", some("set", len(j.in.Sets), unwritten))
	}
}

func (j *judge) nodes() {
	var down, off []string
	for _, n := range j.in.Nodes {
		why, _ := strings.CutPrefix(n.Why, strings.TrimPrefix(n.Name, "http://")+": ")
		switch skew := time.Duration(n.SkewMillis) * time.Millisecond; {
		case !n.Up && why != "":
			down = append(down, n.Name+" ("+why+")")
		case !n.Up:
			down = append(down, n.Name)
		case skew.Abs() > maxSkew:
			off = append(off, fmt.Sprintf("%s (%v)", n.Name, skew.Round(time.Second)))
		}
	}
	if len(down) > 0 {
		j.less("%s down", someAre("node", len(j.in.Nodes), down))
	}
	if len(off) > 0 {
		j.less("the clock of %s is off", some("node", len(j.in.Nodes), off))
	}
}

// drives tells of those of nodes that are up; those of a node that is down go with it.
func (j *judge) drives() {
	up := map[string]bool{}
	for _, n := range j.in.Nodes {
		up[n.Name] = n.Up
	}
	joined := map[string]bool{}
	for _, p := range j.in.Pools {
		for s := range p.Sets {
			joined[fmt.Sprintf("%d/%d", p.Pool, s+1)] = p.Joined
		}
	}
	by := map[string][]string{}
	for _, d := range j.in.Drives {
		if known, ok := joined[d.Set]; ok && !known {
			continue
		}
		name := d.Path
		if len(j.in.Nodes) > 1 {
			name = d.Node + d.Path
		}
		switch {
		case d.State == DriveOffline && !up[d.Node]:
		case d.State == DriveOffline, d.State == DriveSuspect, d.State == DriveFull:
			by[d.State] = append(by[d.State], name)
		case d.Healing:
			by[DriveHealing] = append(by[DriveHealing], name)
		}
	}
	for _, s := range []struct{ state, words string }{
		{DriveOffline, "offline"}, {DriveFull, "full"}, {DriveSuspect, "slow or erring"}, {DriveHealing, "being refilled"},
	} {
		if names := by[s.state]; len(names) > 0 {
			j.less("%s %s", someAre("drive", len(j.in.Drives), names), s.words)
		}
	}
}

func (j *judge) metadata() {
	m := j.in.Metadata
	if j.in.Complete && m.Live < m.Wanted && m.Outage == "" {
		j.less("metadata has %d of %d replicas", m.Live, m.Wanted)
	}
}

func (j *judge) notes() {
	note := func(format string, args ...any) { j.in.Notes = append(j.in.Notes, fmt.Sprintf(format, args...)) }
	for _, p := range j.in.Pools {
		if !p.Joined {
			note("pool %d (%s) is being added: it is part of the store when all of its drives are there", p.Pool, p.Arg)
		}
	}
	versions := map[string]bool{}
	for _, n := range j.in.Nodes {
		if n.Up && n.Version != "" {
			versions[n.Version] = true
		}
	}
	if len(versions) > 1 {
		note("the nodes run %d versions", len(versions))
	}
}

// maxNamed is how many things a sentence names.
const maxNamed = 3

// someAre is "2 of 16 drives are a, b" without a verb behind it: "... are".
func someAre(what string, of int, names []string) string {
	are := "is"
	if len(names) > 1 {
		are = "are"
	}
	return fmt.Sprintf("%d of %d %ss (%s) %s", len(names), of, what, list(names), are)
}

// some is "set 1/2", or "2 of 3 sets (1/1, 1/2)".
func some(what string, of int, names []string) string {
	if len(names) == 1 {
		return what + " " + names[0]
	}
	return fmt.Sprintf("%d of %d %ss (%s)", len(names), of, what, list(names))
}

func list(names []string) string {
	if more := len(names) - maxNamed; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}
