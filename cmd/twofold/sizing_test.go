package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"twofold/cluster/plan"
)

// sizes are the rows of docs/sizing.md, with the set size that S3 servers of this
// family have for them; 0 is refused.
var sizes = []struct{ nodes, drives, set int }{
	{1, 1, 1}, {1, 4, 4}, {1, 8, 8}, {1, 18, 9}, {1, 24, 12},
	{2, 4, 8}, {2, 180, 12}, {3, 6, 9}, {4, 1, 4}, {4, 2, 8}, {4, 4, 16}, {5, 2, 10}, {8, 1, 8}, {8, 2, 16}, {9, 2, 9},
	{12, 12, 12}, {16, 64, 16}, {16, 200, 16}, {17, 4, 0}, {32, 32, 16}, {38, 12, 2},
}

func sizingTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| nodes × drives of each | set | sets | parity | usable | metadata replicas | any nodes: reads / writes | any drives: reads / writes |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range sizes {
		args := fmt.Sprintf("--json http://node{1...%d}/disk{1...%d}", s.nodes, s.drives)
		if s.nodes == 1 {
			args = fmt.Sprintf("--json /disk{1...%d}", s.drives)
		}
		out, status := planned(t, args)
		fmt.Fprintf(&b, "| %d × %d |", s.nodes, s.drives)
		if s.set == 0 {
			if status == 0 {
				t.Errorf("%v is not refused", s)
			}
			b.WriteString(" refused | | | | | | |\n")
			continue
		}
		var p plan.Plan
		if err := json.Unmarshal([]byte(out), &p); err != nil {
			t.Fatal(s, err, out)
		}
		pool := p.Pools[0]
		if pool.SetSize != s.set {
			t.Errorf("%d×%d has sets of %d, want %d", s.nodes, s.drives, pool.SetSize, s.set)
		}
		nodes := "–"
		if s.nodes > 1 {
			nodes = fmt.Sprintf("%d / %d", p.Survives.Nodes.Reads, p.Survives.Nodes.Writes)
		}
		fmt.Fprintf(&b, " %d | %d | EC:%d | %d%% | %d | %s | %d / %d |\n", pool.SetSize, pool.Sets, p.Parity, 100*pool.DataShards/pool.SetSize,
			p.Metadata.Replicas, nodes, p.Survives.Drives.Reads, p.Survives.Drives.Writes)
	}
	return b.String()
}

// TestSizingPage: what docs/sizing.md shows of `twofold plan` is what it prints.
func TestSizingPage(t *testing.T) {
	const page = "../../docs/sizing.md"
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)(<!-- sizing table: generated -->\n).*?(<!-- end -->)`)
	command := regexp.MustCompile("(?s)(```\n\\$ twofold plan )([^\n]*)\n.*?(```)")
	if n, m := len(table.FindAll(have, -1)), len(command.FindAll(have, -1)); n != 1 || m < 4 {
		t.Fatalf("%d tables and %d commands", n, m)
	}
	made := table.ReplaceAllLiteral(have, []byte("<!-- sizing table: generated -->\n\n"+sizingTable(t)+"\n<!-- end -->"))
	made = command.ReplaceAllFunc(made, func(block []byte) []byte {
		m := command.FindSubmatch(block)
		out, _ := planned(t, string(m[2]))
		return fmt.Appendf(nil, "%s%s\n%s%s", m[1], m[2], out, m[3])
	})
	if *rewrite {
		if err := os.WriteFile(page, made, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(made) != string(have) {
		t.Errorf("%s is stale: go test ./cmd/twofold -run TestSizingPage -rewrite", page)
	}
}
