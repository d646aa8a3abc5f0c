package replica

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestIndexOlderThanItsSnapshot: an index that was closed cleanly, and has applied less
// than the snapshot holds, is rebuilt: the log begins behind the snapshot.
func TestIndexOlderThanItsSnapshot(t *testing.T) {
	ctx := context.Background()
	dirs := testDirs(t, 1)
	closed := func(g *Group) {
		t.Helper()
		if err := g.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	apply := func(g *Group, name, value string) {
		t.Helper()
		if _, err := g.Apply(ctx, set(name, value)); err != nil {
			t.Fatal(err)
		}
	}
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
	apply(g, "a", "1")
	closed(g)
	base, saved := kvDir(dirs[0].g0()), t.TempDir()
	if err := os.CopyFS(saved, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	g = openTest(t, Options{Dirs: dirs})
	apply(g, "a", "2")
	apply(g, "b", "1")
	wait(t, 20*time.Second, "a snapshot", func() bool { return g.leader().snapshot() == nil })
	apply(g, "c", "1") // behind the snapshot
	closed(g)
	if err := os.RemoveAll(base); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(base, os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	g = openTest(t, Options{Dirs: dirs})
	for name, want := range map[string]string{"a": "2", "b": "1", "c": "1"} {
		if got := get(t, g, name); got != want {
			t.Errorf("%s is %q, and not %q", name, got, want)
		}
	}
}
