package replica

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func testDirs(t testing.TB, n int) []Dir {
	base := t.TempDir()
	dirs := make([]Dir, n)
	for i := range dirs {
		if err := os.Mkdir(filepath.Join(base, fmt.Sprintf("d%d", i+1)), 0o700); err != nil {
			t.Fatal(err)
		}
		dirs[i] = Dir{Drive: twofold.NewUUID(), Path: filepath.Join(base, fmt.Sprintf("d%d", i+1))}
	}
	return dirs
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func openTest(t testing.TB, o Options) *Group {
	t.Helper()
	if o.NewMachine == nil {
		o.NewMachine = newFake
	}
	if o.Logger == nil {
		o.Logger = testLogger(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	g, err := Open(ctx, o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := g.Close(context.Background()); err != nil {
			t.Logf("close: %v", err)
		}
	})
	return g
}

var testSeq atomic.Uint64

func incr(name string) *metadata.Command {
	return &metadata.Command{Op: metadata.OpSetConfig, Session: 1, Seq: testSeq.Add(1), Body: &metadata.SetConfig{Name: "+" + name}}
}

func set(name, value string) *metadata.Command {
	return &metadata.Command{Op: metadata.OpSetConfig, Session: 1, Seq: testSeq.Add(1), Body: &metadata.SetConfig{Name: name, Value: []byte(value)}}
}

func get(t testing.TB, g *Group, name string) string {
	t.Helper()
	var s string
	err := g.View(context.Background(), func(v metadata.View) error {
		b, err := v.Config(name)
		s = string(b)
		return err
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return s
}

func TestApplyView(t *testing.T) {
	g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true})
	ctx := context.Background()
	for i := range 20 {
		res, err := g.Apply(ctx, incr("n"))
		if err != nil || res.ID != uint64(i) {
			t.Fatalf("increment %d: %v, %v", i, res, err)
		}
		if s := get(t, g, "+n"); s != fmt.Sprint(i+1) {
			t.Fatalf("read %q after increment %d", s, i)
		}
	}
	res, err := g.Apply(ctx, set("fail", ""))
	if !errs.Is(err, errs.Precondition) || res == nil || !res.Failed {
		t.Fatalf("a failed result: %v, %v", res, err)
	}
}
