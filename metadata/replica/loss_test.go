package replica

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
)

// TestLoseOne removes a drive of four under load: a follower's, then the leader's.
func TestLoseOne(t *testing.T) {
	for name, leader := range map[string]bool{"follower": false, "leader": true} {
		t.Run(name, func(t *testing.T) {
			dirs := testDirs(t, 4)
			g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
			l := startLoad(t, g, 4)
			l.run(200 * time.Millisecond)
			victim, others := leaderAndOthers(t, g)
			if !leader {
				victim = others[0]
			}
			destroy(t, victim)
			wait(t, 15*time.Second, "the lost drive is out of the group", settled(g, 3))
			l.run(200 * time.Millisecond)

			// An empty drive in its place is a new one.
			if err := os.MkdirAll(victim.Path, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := g.AddReplica(context.Background(), Dir{Drive: twofold.NewUUID(), Path: victim.Path}); err != nil {
				t.Fatal(err)
			}
			wait(t, 10*time.Second, "four replicas", settled(g, 4))
			l.end()
		})
	}
}

// TestLoseTwo removes two drives of four at once under load, the leader's among them
// or not. The group goes on from the two that are left, and keeps everything.
func TestLoseTwo(t *testing.T) {
	for name, leader := range map[string]bool{"followers": false, "leader": true} {
		t.Run(name, func(t *testing.T) {
			dirs := testDirs(t, 4)
			g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
			l := startLoad(t, g, 4)
			l.run(200 * time.Millisecond)
			first, others := leaderAndOthers(t, g)
			victims := []Dir{first, others[0]}
			if !leader {
				victims = others[:2]
			}
			epoch := g.Status().Epoch
			for _, v := range victims {
				destroy(t, v)
			}
			for _, v := range victims {
				g.DriveLost(v.Drive)
			}
			wait(t, 15*time.Second, "two replicas go on", settled(g, 2))
			if g.Status().Epoch == epoch {
				t.Error("the epoch was not raised")
			}
			l.run(200 * time.Millisecond)
			for _, v := range victims {
				if err := os.MkdirAll(v.Path, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := g.DriveBack(context.Background(), v); err != nil { // the same id, emptied
					t.Fatal(err)
				}
			}
			wait(t, 10*time.Second, "four replicas", settled(g, 4))
			l.end()
			if err := g.Close(context.Background()); err != nil {
				t.Error(err)
			}
			l.check(openTest(t, Options{Dirs: dirs}))
		})
	}
}

// TestLoseThree: one of four is not enough; it says so, and goes on when the others
// are back with what they had.
func TestLoseThree(t *testing.T) {
	dirs := testDirs(t, 4)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
	l := startLoad(t, g, 2)
	l.run(100 * time.Millisecond)
	close(l.stop)
	l.wg.Wait()
	for _, d := range dirs[1:] {
		if err := os.Rename(d.Path, d.Path+".away"); err != nil {
			t.Fatal(err)
		}
		g.node(d.Drive).out(errs.Newf("test", errs.Unavailable, "unplugged"))
	}
	g.wake()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := g.Apply(ctx, incr("n"))
	if !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.UnknownOutcome) {
		t.Errorf("with one of four: %v", err)
	}
	wait(t, 20*time.Second, "the outage is noted", func() bool { return g.Status().Outage != "" })
	_, err = g.Apply(ctx, incr("n"))
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), dirs[2].Path) {
		t.Errorf("with one of four: %v", err)
	}
	if err := g.DriveBack(ctx, dirs[1]); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a drive that is not there: %v", err)
	}
	for _, d := range dirs[1:] {
		if err := os.Rename(d.Path+".away", d.Path); err != nil {
			t.Fatal(err)
		}
	}
	// Its replica was abandoned with the log open; a process of its own would have
	// to end first. Here the drives come back one by one after the instances ended.
	for _, d := range dirs[1:] {
		wait(t, 40*time.Second, "the drive's old instance ended", func() bool {
			err := g.DriveBack(ctx, d)
			return err == nil
		})
	}
	wait(t, 20*time.Second, "the replicas are back", settled(g, 4))
	if _, err := g.Apply(context.Background(), incr("n")); err != nil {
		t.Error(err)
	}
	l.check(g)
}

// TestStart opens a group with drives missing.
func TestStart(t *testing.T) {
	dirs := testDirs(t, 4)
	ctx := context.Background()
	if _, err := Open(ctx, Options{Dirs: dirs, NewMachine: newFake}); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("empty drives without Bootstrap: %v", err)
	}
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
	l := startLoad(t, g, 3)
	l.run(100 * time.Millisecond)
	l.end()
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	away := func(ds ...Dir) {
		for _, d := range ds {
			if err := os.Rename(d.Path, d.Path+".away"); err != nil {
				t.Fatal(err)
			}
		}
	}
	back := func(ds ...Dir) {
		for _, d := range ds {
			if err := os.Rename(d.Path+".away", d.Path); err != nil {
				t.Fatal(err)
			}
		}
	}

	// One of four: refused, with the missing drives named. Nothing changes by it.
	away(dirs[0], dirs[1], dirs[3])
	_, err := Open(ctx, Options{Dirs: dirs, NewMachine: newFake, Logger: testLogger(t)})
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), dirs[3].Path) {
		t.Fatalf("one of four: %v", err)
	}
	back(dirs[0], dirs[1], dirs[3])

	// Two of four go on, and the others have no say when they are back.
	away(dirs[0], dirs[1])
	g = openTest(t, Options{Dirs: dirs})
	l.check(g)
	wait(t, 10*time.Second, "two replicas", settled(g, 2))
	for range 5 {
		if _, err := g.Apply(ctx, incr("late")); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	back(dirs[0], dirs[1])
	g = openTest(t, Options{Dirs: dirs})
	if n := read(t, g, "+late"); n != 5 {
		t.Errorf("the stale drives were listened to: %d", n)
	}
	wait(t, 20*time.Second, "the stale drives are filled again", settled(g, 4))
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}

	// A stale drive alone with another stale one is not listened to either.
	away(dirs[2])
	g = openTest(t, Options{Dirs: dirs})
	wait(t, 10*time.Second, "three replicas", settled(g, 3))
	if _, err := g.Apply(ctx, incr("late")); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	back(dirs[2])
	away(dirs[0], dirs[1])
	_, err = Open(ctx, Options{Dirs: dirs, NewMachine: newFake, Logger: testLogger(t)})
	if !errs.Is(err, errs.Unavailable) {
		t.Fatalf("one current and one stale of four: %v", err)
	}
	back(dirs[0], dirs[1])
	g = openTest(t, Options{Dirs: dirs})
	if n := read(t, g, "+late"); n != 6 {
		t.Errorf("late is %d", n)
	}
	l.check(g)
}

// TestDamagedReplica: a replica whose log or snapshot is gone does not vote as one
// that has nothing; it is made again. When too many are damaged, that is said.
func TestDamagedReplica(t *testing.T) {
	dirs := testDirs(t, 4)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true})
	l := startLoad(t, g, 3)
	l.run(100 * time.Millisecond)
	l.end()
	ctx := context.Background()
	for i, damage := range []func(g0 string){
		func(g0 string) { os.RemoveAll(filepath.Join(g0, "wal")) },
		func(g0 string) {
			os.Remove(filepath.Join(g0, "wal", "meta-0"))
			os.Remove(filepath.Join(g0, "wal", "meta-1"))
		},
		func(g0 string) {
			segs, _ := filepath.Glob(filepath.Join(g0, "wal", "*.wal"))
			for _, s := range segs {
				os.Remove(s)
			}
		},
		func(g0 string) { os.RemoveAll(filepath.Join(g0, "snapshots")) },
		func(g0 string) { os.RemoveAll(g0) },
	} {
		for _, n := range g.running() {
			if err := n.snapshot(); err != nil && !strings.Contains(err.Error(), "nothing new") {
				t.Log(err)
			}
		}
		for range 50 {
			if _, err := g.Apply(ctx, incr("n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Close(ctx); err != nil {
			t.Fatal(err)
		}
		damage(dirs[i%4].g0())
		g = openTest(t, Options{Dirs: dirs})
		if n := read(t, g, "+n"); n != 50*(i+1) {
			t.Errorf("damage %d: %d", i, n)
		}
		wait(t, 20*time.Second, "the replica is made again", settled(g, 4))
		sameState(t, g)
	}
	if err := g.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs[:3] {
		os.RemoveAll(filepath.Join(d.g0(), "wal"))
	}
	if _, err := Open(ctx, Options{Dirs: dirs, NewMachine: newFake, Logger: testLogger(t)}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("three of four logs are gone: %v", err)
	}
}
