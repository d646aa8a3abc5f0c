package replica

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary a process that is there to be killed.
const childEnv = "TWOFOLD_REPLICA_CHILD"

func TestMain(m *testing.M) {
	if dirs := os.Getenv(childEnv); dirs != "" {
		child(dirs)
		return
	}
	os.Exit(m.Run())
}

// child opens the group, increments counters and says what was acknowledged, until
// it is killed.
func child(list string) {
	var dirs []Dir
	if err := json.Unmarshal([]byte(list), &dirs); err != nil {
		panic(err)
	}
	g, err := Open(context.Background(), Options{Dirs: dirs, Bootstrap: true, NewMachine: newFake})
	if err != nil {
		panic(err)
	}
	out := make(chan string)
	for i := range 8 {
		go func() {
			for n := 1; ; n++ {
				cmd := incr(fmt.Sprint("w", i))
				cmd.Session = 0 // no result to keep: a killed process does not ask again
				if _, err := g.Apply(context.Background(), cmd); err != nil {
					panic(err)
				}
				out <- fmt.Sprintf("w%d", i)
			}
		}()
	}
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			for _, n := range g.running() {
				_ = n.snapshot() // at any point
			}
		}
	}()
	w := bufio.NewWriter(os.Stdout)
	for name := range out {
		fmt.Fprintln(w, name)
		if w.Flush() != nil {
			return
		}
	}
}

// TestKill kills the process at some point under load, several times, and looks for
// what it had acknowledged. Every other time the index is removed as well, to show
// that checkpoint and log are enough.
func TestKill(t *testing.T) {
	dirs := testDirs(t, 4)
	list, _ := json.Marshal(dirs)
	acked := map[string]int{}
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(list))
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := acked["w0"]
		lines := bufio.NewScanner(pipe)
		var kill *time.Timer
		for lines.Scan() {
			if kill == nil {
				kill = time.AfterFunc(time.Duration(100+round*70)*time.Millisecond, func() { cmd.Process.Kill() })
			}
			acked[strings.TrimSpace(lines.Text())]++
		}
		cmd.Wait()
		if acked["w0"] == before {
			t.Fatal("the child did nothing")
		}
		if round%2 == 1 {
			for _, d := range dirs {
				if err := os.RemoveAll(kvDir(d.g0())); err != nil {
					t.Fatal(err)
				}
			}
		}
		g := openTest(t, Options{Dirs: dirs})
		for name, n := range acked {
			if got := read(t, g, "+"+name); got < n {
				t.Errorf("round %d: %s is %d, %d were acknowledged", round, name, got, n)
			} else {
				acked[name] = got // one more may have been under way
			}
		}
		wait(t, 10*time.Second, "four replicas", settled(g, 4))
		sameState(t, g)
		if err := g.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if clean, _ := filepath.Glob(filepath.Join(kvDir(dirs[0].g0()), "live-*", "CLEAN")); len(clean) != 1 {
			t.Errorf("no clean mark after a clean stop: %v", clean)
		}
	}
	t.Logf("%v", acked)
}
