// Package plan says what a server's arguments would make, before anything is
// formatted: sets, parity, capacity, where metadata replicas go, and what may fail.
// Simulate places names with the functions that the store itself uses, and counts
// what lost nodes cost. It is pure: the same arguments give the same words.
package plan

import (
	"fmt"
	"strings"

	"twofold/cluster/topology"
	"twofold/engine/placement"
)

// Plan is what a store would be. Its JSON form is what `twofold plan --json` prints.
type Plan struct {
	Nodes    []string    `json:"nodes"` // URLs; none for directories of one machine
	Drives   int         `json:"drives"`
	Pools    []Pool      `json:"pools"`
	Parity   int         `json:"parity"`                  // of STANDARD objects
	RRS      int         `json:"reducedRedundancyParity"` // of REDUCED_REDUNDANCY objects
	Usable   float64     `json:"usableShare"`             // of the drives' capacity, by STANDARD objects
	Capacity *Capacity   `json:"capacity,omitempty"`      // where the size of a drive was given
	Metadata Metadata    `json:"metadata"`                //
	Survives Survives    `json:"survivesLossOf"`          // at once, whichever they are
	Warnings []string    `json:"warnings"`                // what works but surprises, in sentences
	Lost     *Simulation `json:"simulation,omitempty"`    // of Simulate
	top      topology.Topology
}

// Pool is one pool's sets.
type Pool struct {
	Arguments    string  `json:"arguments"`
	Nodes        int     `json:"nodes"`
	Drives       int     `json:"drives"`
	Sets         int     `json:"sets"`
	SetSize      int     `json:"drivesInSet"`
	DrivesOfNode int     `json:"drivesOfOneNodeInSet"`
	DataShards   int     `json:"dataShards"`
	ParityShards int     `json:"parityShards"`
	Usable       float64 `json:"usableShare"`
}

// Capacity is in bytes.
type Capacity struct {
	Drive  int64 `json:"drive"`
	Raw    int64 `json:"raw"`
	Usable int64 `json:"usable"` // by STANDARD objects; metadata and the file systems' own need are part of it
}

// Metadata is how the names and attributes are kept.
type Metadata struct {
	Replicas      int     `json:"replicas"`
	NeededToRead  int     `json:"neededToRead"`
	NeededToWrite int     `json:"neededToWrite"`
	Places        []Place `json:"places"` // at first; the first founds the group
}

// Place is a drive.
type Place struct {
	Node string `json:"node,omitempty"`
	Path string `json:"path"`
}

// Survives is how many may be lost at once, whichever they are.
type Survives struct {
	Nodes  Loss `json:"nodes"`
	Drives Loss `json:"drives"`
}

// Loss is what each part bears; Reads and Writes is what the whole does.
type Loss struct {
	Reads          int `json:"reads"`
	Writes         int `json:"writes"`
	DataReads      int `json:"dataReads"`
	DataWrites     int `json:"dataWrites"`
	MetadataReads  int `json:"metadataReads"`
	MetadataWrites int `json:"metadataWrites"`
}

func lossOf(t placement.Tolerance) Loss {
	return Loss{t.Reads(), t.Writes(), t.DataReads, t.DataWrites, t.MetaReads, t.MetaWrites}
}

// Of plans a store. driveSize is in bytes, of each drive; 0 where it is not known.
func Of(top topology.Topology, driveSize int64) Plan {
	l := top.Layout
	p := Plan{
		Nodes: []string{}, Drives: len(l.Drives()), Parity: l.Standard, RRS: l.RRS, Warnings: append([]string{}, l.Warnings...),
		Survives: Survives{Nodes: lossOf(l.NodeTolerance()), Drives: lossOf(l.Tolerance())},
		top:      top,
	}
	if top.Nodes[0].Scheme != "" {
		for _, n := range top.Nodes {
			p.Nodes = append(p.Nodes, n.String())
		}
	}
	data := 0
	for _, pool := range l.Pools {
		c := placement.CodingFor(pool.SetSize, l.Standard, 0)
		data += pool.Sets() * c.Data
		p.Pools = append(p.Pools, Pool{
			Arguments: pool.Arg, Nodes: pool.Nodes, Drives: len(pool.Drives), Sets: pool.Sets(), SetSize: pool.SetSize, DrivesOfNode: pool.PerNode(),
			DataShards: c.Data, ParityShards: c.Parity, Usable: float64(c.Data) / float64(pool.SetSize),
		})
	}
	p.Usable = float64(data) / float64(p.Drives)
	if driveSize > 0 {
		p.Capacity = &Capacity{Drive: driveSize, Raw: int64(p.Drives) * driveSize, Usable: int64(data) * driveSize}
	}
	replicas := l.ReplicaDrives()
	t := l.Tolerance()
	p.Metadata = Metadata{Replicas: len(replicas), NeededToRead: len(replicas) - t.MetaReads, NeededToWrite: len(replicas) - t.MetaWrites}
	for _, d := range replicas {
		place := Place{Path: d.Path}
		if n := top.Nodes[d.Node]; n.Scheme != "" {
			place.Node = n.String()
		}
		p.Metadata.Places = append(p.Metadata.Places, place)
	}
	return p
}

// Text is for people. It ends in a newline.
func (p Plan) Text() string {
	var b strings.Builder
	if len(p.Nodes) > 0 {
		fmt.Fprintf(&b, "Nodes: %d: %s\n", len(p.Nodes), p.top.Names())
	}
	b.WriteString(p.top.Layout.Describe())
	if p.Metadata.Replicas < p.Drives || len(p.Nodes) > 1 {
		var s []string
		for _, r := range p.Metadata.Places {
			s = append(s, r.Node+r.Path)
		}
		fmt.Fprintf(&b, "Metadata replicas go to: %s\n", strings.Join(s, ", "))
	}
	if c := p.Capacity; c != nil {
		fmt.Fprintf(&b, "Capacity: %s of drives of %s, %s usable; metadata and the file systems of the drives take their part of that\n",
			bytes(c.Raw), bytes(c.Drive), bytes(c.Usable))
	}
	if p.Lost != nil {
		b.WriteString("\n" + p.Lost.text())
	}
	return b.String()
}

// bytes is a size with a unit, powers of 1024, rounded down: a promise is not rounded up.
func bytes(n int64) string {
	for i, unit := range []string{"EiB", "PiB", "TiB", "GiB", "MiB", "KiB"} {
		if one := int64(1) << (60 - 10*i); n >= one {
			s := fmt.Sprintf("%.2f", float64(n/(one/1024)*100/1024)/100)
			return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + " " + unit
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
