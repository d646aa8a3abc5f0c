package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// nodesLimit is how long anything of a store over several nodes may take here: an election
// and the lease term are a few seconds, and the machine may be slow.
const nodesLimit = 90 * time.Second

// eventually tries until it succeeds.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(nodesLimit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// object is one in bucket "nodes".
type object struct {
	key  string
	body []byte
}

func (o object) put(s *harness.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := s.S3().PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("nodes"), Key: &o.key, Body: bytes.NewReader(o.body)})
	return err
}

func (o object) get(s *harness.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := s.S3().GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("nodes"), Key: &o.key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err == nil && !bytes.Equal(b, o.body) {
		err = fmt.Errorf("%s has %d bytes, and not those that were written", o.key, len(b))
	}
	return err
}

// newObjects are a small and a large one.
func newObjects(name string) []object {
	large := make([]byte, 3<<20+17)
	rand.Read(large)
	return []object{{name + "/small", []byte("small " + name)}, {name + "/large", large}}
}

// leader is the node that leads, by what it printed last.
func leader(t *testing.T, nodes []*harness.Server) int {
	t.Helper()
	at := -1
	eventually(t, "a node that leads", func() error {
		at = -1
		for i, s := range nodes {
			if s.Alive() && s.SaidLast("this node leads the store", "this node does not lead") == "this node leads the store" {
				at = i
			}
		}
		if at < 0 {
			return errors.New("none")
		}
		return nil
	})
	return at
}

// says is an error as long as a node has not printed a text.
func says(s *harness.Server, text string) error {
	if !s.Says(text) {
		return fmt.Errorf("%q is not in what it printed", text)
	}
	return nil
}

// TestFourNodes: four nodes form a store; every one serves what any of them was given.
// The store goes on without the one that leads, which comes back and catches up, also with an
// emptied disk; all of them can be killed and started again.
func TestFourNodes(t *testing.T) {
	nodes := harness.NewNodes(t, 4, 1)
	alone(t, nodes)
	harness.StartNodes(t, nodes[1:]...)
	harness.AwaitNodes(t, nodes[0])
	ctx := t.Context()
	if _, err := nodes[1].S3().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("nodes")}); err != nil {
		t.Fatal(err)
	}
	all := newObjects("first")
	for _, o := range all {
		if err := o.put(nodes[1]); err != nil {
			t.Fatal(err)
		}
		if err := o.get(nodes[2]); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for _, o := range all {
			for _, s := range nodes {
				if s.Alive() {
					eventually(t, when+": "+s.Address, func() error { return o.get(s) })
				}
			}
		}
	}

	lost := leader(t, nodes)
	nodes[lost].Kill()
	for _, o := range newObjects("one lost") {
		eventually(t, "a PUT with one node lost", func() error { return o.put(nodes[(lost+1)%4]) })
		all = append(all, o)
	}
	check("one lost")
	for i, s := range nodes {
		if s.Alive() && i != leader(t, nodes) {
			eventually(t, s.Address+" says who leads", func() error { return says(s, "another node leads the store") })
		}
	}
	harness.StartNodes(t, nodes[lost])
	check("it is back")

	// The disk of another one is emptied: its node makes it a new drive, which is refilled.
	emptied := (lost + 1) % 4
	const joined = "a metadata replica joined the group"
	had := nodes[emptied].Said(joined)
	nodes[emptied].Kill()
	empty(t, nodes[emptied].Drives[0])
	harness.StartNodes(t, nodes[emptied])
	eventually(t, "the emptied drive is refilled", func() error {
		return hasShards(nodes[emptied].Drives[0], 2)
	})
	check("a disk was emptied")

	// Now another one can be lost: the one that was refilled has what it needs.
	other := (emptied + 1) % 4
	eventually(t, "the new drive has a metadata replica with a vote", func() error {
		if nodes[emptied].Said(joined) == had {
			return errors.New("not yet")
		}
		return nil
	})
	nodes[other].Kill()
	for _, o := range newObjects("another lost") {
		eventually(t, "a PUT with another node lost", func() error { return o.put(nodes[emptied]) })
		all = append(all, o)
	}
	check("another lost")

	// With two of four nobody leads. The node that did says so, or those that lost it.
	nodes[lost].Kill()
	eventually(t, "a node says that nobody leads", func() (err error) {
		for _, s := range nodes {
			if s.Alive() {
				if err = says(s, "no node leads the store"); err == nil {
					return nil
				}
			}
		}
		return err
	})
	for _, s := range nodes {
		if s.Alive() {
			s.Kill()
		}
	}
	harness.StartNodes(t, nodes...)
	check("all were killed")
	// One that stops hands over, and the others go on; then all stop at once.
	if err := nodes[leader(t, nodes)].Stop(); err != nil {
		t.Error(err)
	}
	check("one has stopped")
	var wg sync.WaitGroup
	for _, s := range nodes {
		if s.Alive() {
			wg.Go(func() {
				if err := s.Stop(); err != nil {
					t.Errorf("%s: %v\n%s", s.Address, err, s.Log())
				}
			})
		}
	}
	wg.Wait()
}

// alone starts the first node. It says for whom it waits, and why; S3 clients are to try
// again.
func alone(t *testing.T, nodes []*harness.Server) {
	t.Helper()
	if err := nodes[0].Launch(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is waited for", func() error {
		for _, s := range nodes[1:] {
			if want := "waiting: for http://" + s.Address + ": connection refused\n"; !nodes[0].Says(want) {
				return fmt.Errorf("no %q in\n%s", want, nodes[0].Log())
			}
		}
		return nil
	})
	resp, err := http.Get(nodes[0].URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !bytes.Contains(b, []byte("<Code>SlowDown</Code>")) {
		t.Errorf("%s, %v\n%s", resp.Status, err, b)
	}
}

// empty removes what is in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// hasShards reports whether a drive has so many shards at least.
func hasShards(drive string, n int) error {
	found, err := filepath.Glob(filepath.Join(drive, "blobs", "*", "*"))
	if err == nil && len(found) < n {
		err = fmt.Errorf("%d shards", len(found))
	}
	return err
}

// TestMountsOfNodes: mounts of different nodes and S3 at a third are one store; each goes on
// when the node that leads is killed, also that node's own, whose process outlives its server.
func TestMountsOfNodes(t *testing.T) {
	harness.NeedMount(t)
	nodes := harness.NewNodes(t, 4, 1)
	nodes[0].Mount, nodes[1].Mount = filepath.Join(nodes[0].Dir, "mnt"), filepath.Join(nodes[1].Dir, "mnt")
	harness.StartNodes(t, nodes...)
	if _, err := nodes[2].S3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("nodes")}); err != nil {
		t.Fatal(err)
	}
	write := func(s *harness.Server, name, text string) {
		t.Helper()
		if err := os.WriteFile(s.Path("nodes", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(s *harness.Server, name, want string) {
		t.Helper()
		b, err := os.ReadFile(s.Path("nodes", name))
		if err != nil || string(b) != want {
			t.Fatalf("%s at %s: %q, %v", name, s.Mount, b, err)
		}
	}
	write(nodes[0], "a", "from the first mount")
	read(nodes[1], "a", "from the first mount")
	in, _, err := adminInfo(t, nodes[3])
	if err != nil {
		t.Fatal(err)
	}
	if m := in.Mounts; len(m) != 2 || !m[0].Connected || !m[1].Connected || m[0].Peer == "" || m[0].Peer == m[1].Peer || m[0].Process == "" {
		t.Errorf("mounts %+v", m)
	}
	if err := (object{"a", []byte("from the first mount")}).get(nodes[3]); err != nil {
		t.Fatal(err)
	}
	// Written, not fsynced, and not seen by anybody: it is in the mount when its server dies.
	f, err := os.Create(nodes[0].Path("nodes", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("unwritten"); err != nil {
		t.Fatal(err)
	}
	lost := leader(t, nodes)
	nodes[lost].Kill()
	read(nodes[1], "b", "unwritten")
	if _, err := f.WriteString(", and more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	read(nodes[1], "b", "unwritten, and more")
	write(nodes[1], "a", "changed")
	read(nodes[0], "a", "changed")
	for i, s := range nodes {
		if i != lost {
			eventually(t, s.Address, func() error { return object{"b", []byte("unwritten, and more")}.get(s) })
		}
	}
}
