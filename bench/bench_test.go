package bench

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// nothing is a workload that does nothing.
type nothing struct{}

func (nothing) Steps(int) []Step {
	do := func(context.Context, int) error { return nil }
	return []Step{
		{Name: "write", Clients: 1, Count: 3, Bytes: 1 << 20, Do: do},
		{Name: "a step with a name longer than others", Clients: 4, Count: 8, Do: do},
	}
}

func (nothing) Clean(context.Context, int) error { return nil }

// The columns of the table stand below each other, however long the names are.
func TestTable(t *testing.T) {
	targets := []Target{{"/a/directory/that/is/rather/deep", nothing{}}, {"b", nothing{}}}
	res, err := Run(context.Background(), io.Discard, 2, targets...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	Report(&out, targets, res)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[1], "write, 1 client ") || !strings.Contains(lines[3], "others, 4 clients  /a/directory/") {
		t.Fatalf("\n%s", &out)
	}
	for i, l := range lines[1:] { // the ratio stands beside what the first one is compared with
		if (i%2 == 1) != strings.Contains(l, "x (") {
			t.Errorf("line %d:\n%s", i+1, &out)
		}
	}
	target := strings.Index(lines[0], "target")
	for i, l := range lines[1:] {
		if name := targets[i%2].Name; !strings.HasPrefix(l[target:], name+" ") || strings.HasSuffix(l, " ") {
			t.Errorf("line %d:\n%s", i+1, &out)
		}
	}
}
