package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/spf13/cobra"

	"twofold/cluster/plan"
	"twofold/cluster/topology"
	"twofold/engine/placement"
	"twofold/internal/config"
)

// planFlags are the command line of `twofold plan`.
type planFlags struct {
	driveSize string
	simulate  int
	lost      int
	json      bool
}

// mostSimulated is the most names that --simulate places: half a minute.
const mostSimulated = 100_000_000

func planCommand() *cobra.Command {
	f := &planFlags{}
	c := &cobra.Command{
		Use:   "plan [flags] DRIVES...",
		Short: "Say what a server with these drives would be, and what it would survive",
		Long: `Say what twofold server would make of the same arguments: nodes, erasure sets, parity,
usable capacity, where the metadata is, and how many drives and nodes may be lost. No
drive is looked at and no node is asked: it works before there are any, anywhere.

    twofold plan http://node{1...4}/data{1...4}
    twofold plan --drive-size 16TiB /disk{1...8}
    twofold plan --simulate 1000000 http://node{1...16}/data{1...200}

"At once" is the worst case: whichever drives or nodes they are, with no time for the
store to put a metadata replica elsewhere.

--simulate places so many names with the function that the store itself uses, prints how
evenly they are spread, and what the loss of 1, 2, ... nodes costs: in how many of all
choices of these nodes data and metadata can be read and written, and for the worst
choice how many sets are at quorum (they bear not one more lost drive), unreadable with
how many of the names, and not writable (new objects go to other sets then).

S3_STORAGE_CLASS_STANDARD and S3_STORAGE_CLASS_RRS set the parity, as for the server.

Exit status: 0; 2 where the server would refuse the arguments.`,
		Example: "  twofold plan http://node{1...4}/data{1...4}",
		RunE:    func(c *cobra.Command, args []string) error { return runPlan(f, c.OutOrStdout(), args) },
	}
	c.Flags().StringVar(&f.driveSize, "drive-size", "", "print capacities for drives of `SIZE` each, as in 16TiB or 8TB")
	c.Flags().IntVar(&f.simulate, "simulate", 0, "place `N` names and lose nodes")
	c.Flags().IntVar(&f.lost, "lost", 0, "with --simulate: lose up to `K` nodes (default: one more than the data bears)")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON, sizes in bytes")
	return c
}

func runPlan(f *planFlags, out io.Writer, args []string) error {
	if len(args) == 0 {
		return usage("no drives given. Try: twofold plan http://node{1...4}/data{1...4}\nSee: twofold plan --help")
	}
	size := int64(0)
	if f.driveSize != "" {
		var err error
		if size, err = parseBytes(f.driveSize); err != nil {
			return err
		}
	}
	if f.simulate < 0 || f.simulate > mostSimulated {
		return usage("--simulate %d: it is a number of names, up to %d", f.simulate, mostSimulated)
	}
	if f.lost < 0 || f.lost > 0 && f.simulate == 0 {
		return usage("--lost %d: it is a number of nodes, and goes with --simulate", f.lost)
	}
	cfg, err := config.FromEnv(os.LookupEnv)
	if err != nil {
		return usage("%w", plain(err))
	}
	top, err := topology.Parse(args, placement.Classes{Standard: cfg.Standard, RRS: cfg.RRS})
	if err != nil {
		return usage("%w", plain(err))
	}
	if drives := int64(len(top.Layout.Drives())); f.driveSize != "" && (size == 0 || size > math.MaxInt64/drives) {
		return usage("--drive-size %s: it is more than nothing, and all drives together less than 8 EiB", f.driveSize)
	}
	p := plan.Of(top, size)
	if f.simulate > 0 {
		most := f.lost
		if most == 0 {
			most = p.Survives.Nodes.DataReads + 1
		}
		p.Simulate(f.simulate, most)
	}
	if f.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(p)
	}
	_, err = fmt.Fprint(out, p.Text())
	return err
}
