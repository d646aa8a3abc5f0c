package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// treeSteps are what programs do that make many files: each is one operation of one
// client, so its latency is the time that it takes.
func (l *FSLoad) treeSteps(r int) []Step {
	dir := func(kind string) string { return filepath.Join(l.dir, fmt.Sprintf("%s-%d", kind, r)) }
	var steps []Step
	if l.o.Tar != "" {
		steps = append(steps,
			Step{Name: "untar", Clients: 1, Count: 1, Do: func(ctx context.Context, _ int) error {
				if err := os.Mkdir(dir("tar"), 0o755); err != nil {
					return err
				}
				return run(ctx, "tar", "-xf", l.o.Tar, "-C", dir("tar"))
			}})
	}
	if l.o.Git != "" {
		steps = append(steps,
			Step{Name: "git clone", Clients: 1, Count: 1, Do: func(ctx context.Context, _ int) error {
				return run(ctx, "git", "clone", "--quiet", "--no-hardlinks", l.o.Git, dir("git"))
			}})
	}
	return steps
}

// run runs a program to its end; an error has what it said.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
