package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// stores starts a store of its own on each of n machines: what the machines and the network
// between them do is the same whatever the servers say to each other.
func stores(t *testing.T, n int) *Cluster {
	t.Helper()
	c := New(t, n)
	for _, n := range c.Nodes {
		n.Serve(n.Data + "/d{1...2}")
	}
	c.Await()
	return c
}

func TestMachines(t *testing.T) {
	c := stores(t, 2)
	ctx := t.Context()
	if _, err := c.S3(c.Nodes[0]).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("first")}); err != nil {
		t.Fatal(err)
	}
	if out, err := c.S3(c.Nodes[1]).ListBuckets(ctx, nil); err != nil || len(out.Buckets) != 0 {
		t.Errorf("the second store has the bucket of the first: %v, %v", out, err)
	}
	ids := map[string]string{}
	for _, n := range append(c.Nodes, c.Client) {
		if out, err := n.Run(ctx, "hostname"); err != nil || strings.TrimSpace(out) != n.Name {
			t.Errorf("%s is called %q, %v", n.Name, out, err)
		}
		out, err := n.Run(ctx, "cat", "/proc/sys/kernel/random/boot_id")
		if other := ids[out]; err != nil || other != "" {
			t.Errorf("%s and %s have one boot: %q, %v", n.Name, other, out, err)
		}
		ids[out] = n.Name
	}
	for i, n := range c.Nodes {
		own := filepath.Join(n.Dir, "data/d1")
		if a, err := os.Stat(own); err != nil {
			t.Error(err)
		} else if b, err := os.Stat(n.Path(n.Data + "/d1")); err != nil || !os.SameFile(a, b) {
			t.Errorf("%s has other drives than %s: %v", n.Name, own, err)
		}
		// One node reaches the other by its name.
		other := c.Nodes[1-i]
		if out, err := n.Run(ctx, "bash", "-c", "exec 3<>/dev/tcp/"+other.Name+"/9000 && echo there"); err != nil || out != "there\n" {
			t.Errorf("from %s to %s: %q, %v", n.Name, other.Name, out, err)
		}
	}
	if passed, _ := c.Net.Packets(0, 1); passed == 0 {
		t.Error("nothing went from node1 to node2")
	}
	body := make([]byte, 32<<20)
	rand.Read(body)
	if _, err := c.S3(c.Nodes[0]).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("first"), Key: aws.String("k"), Body: bytes.NewReader(body)}); err != nil {
		t.Fatal(err)
	}
	out, err := c.S3(c.Nodes[0]).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("first"), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Names and drives are what a cluster's argument says.
func TestDrives(t *testing.T) {
	c := &Cluster{Nodes: make([]*Node, 4), Client: &Node{Data: "/t/data"}}
	if got := c.Drives(2); got != "http://node{1...4}:9000/t/data/d{1...2}" {
		t.Error(got)
	}
}

// connects reports whether a TCP connection can be made from one node to another
// within so many seconds.
func connects(t *testing.T, from, to *Node, seconds string) bool {
	_, err := from.Run(t.Context(), "timeout", seconds, "bash", "-c", "exec 3<>/dev/tcp/"+to.Name+"/9000")
	return err == nil
}

func TestNetworkFaults(t *testing.T) {
	c := stores(t, 3)
	a, b, d := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	// all finds out which nodes reach which. Those that should not get little time: they
	// would be wrong in none.
	all := func(want string) {
		t.Helper()
		var got [9]string
		var wg sync.WaitGroup
		for i, from := range c.Nodes {
			for j, to := range c.Nodes {
				pair, seconds := from.Name[4:]+to.Name[4:]+" ", "0.3"
				if strings.Contains(want, pair) {
					seconds = "60"
				}
				wg.Go(func() {
					if from != to && connects(t, from, to, seconds) {
						got[3*i+j] = pair
					}
				})
			}
		}
		if wg.Wait(); strings.Join(got[:], "") != want {
			t.Errorf("connected are %s; want %s", strings.Join(got[:], ""), want)
		}
	}
	const whole = "12 13 21 23 31 32 "
	all(whole)

	// One way: what a sends is lost, what b sends arrives, and neither can connect.
	c.Net.Set(a.Number, b.Number, Link{Cut: true})
	before, _ := c.Net.Packets(b.Number, a.Number)
	_, lost := c.Net.Packets(a.Number, b.Number)
	all("13 23 31 32 ")
	if after, _ := c.Net.Packets(b.Number, a.Number); after == before {
		t.Error("nothing came through the other way")
	}
	if _, now := c.Net.Packets(a.Number, b.Number); now == lost {
		t.Error("nothing was dropped")
	}

	c.Net.All(Link{})
	c.Net.Partition([]int{a.Number, b.Number}, []int{d.Number})
	all("12 21 ")
	c.Await(a, b, d) // the client is on no side

	c.Net.All(Link{})
	c.Net.Isolate(a.Number)
	all("23 32 ")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if conn, err := c.Dial(ctx, "tcp", "node1:9000"); err == nil {
		conn.Close()
		t.Error("the client reaches a node that is cut off")
	}
	c.Net.All(Link{})
	all(whole)
}

// A delay is never shorter than it says, and with loss TCP still gets through.
func TestSlowNetwork(t *testing.T) {
	c := stores(t, 1)
	n := c.Nodes[0]
	const way = 50 * time.Millisecond
	c.Net.Both(c.Client.Number, n.Number, Link{Delay: way, Jitter: time.Millisecond})
	begin := time.Now()
	conn, err := c.Dial(t.Context(), "tcp", "node1:9000")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if took := time.Since(begin); took < 2*way {
		t.Errorf("a connection there and back took %v", took)
	}
	c.Net.Both(c.Client.Number, n.Number, Link{Loss: 0.05})
	ctx := t.Context()
	if _, err := c.S3(n).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("lossy")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.S3(n).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("lossy"), Key: aws.String("k"), Body: bytes.NewReader(make([]byte, 4<<20))}); err != nil {
		t.Fatal(err)
	}
	if _, dropped := c.Net.Packets(c.Client.Number, n.Number); dropped == 0 {
		t.Error("4 MiB went to the server without a loss")
	}
}

func TestProcessFaults(t *testing.T) {
	harness.NeedMount(t)
	c := New(t, 1)
	n := c.Nodes[0]
	mnt := filepath.Join(n.Data, "mnt")
	if err := os.Mkdir(n.Path(mnt), 0o755); err != nil {
		t.Fatal(err)
	}
	n.Flags = []string{"--mount", mnt}
	serve := func() {
		t.Helper()
		n.Serve(n.Data + "/d{1...2}")
		c.Await()
	}
	serve()
	mounted := func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", n.shell.sh.Process.Pid))
		return err == nil && strings.Contains(string(b), " "+mnt+" fuse.twofold ")
	}
	n.await("to mount", mounted)
	if harness.Mounted(mnt) {
		t.Error("the node's mount is one of this machine too")
	}
	if _, err := c.S3(n).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("bkt")}); err != nil {
		t.Fatal(err)
	}
	if out, err := n.Run(t.Context(), "bash", "-c", "echo hello >"+mnt+"/bkt/file && sync -f "+mnt+" && cat "+mnt+"/bkt/file"); err != nil || out != "hello\n" {
		t.Errorf("%q, %v", out, err)
	}

	n.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.S3(n).ListBuckets(ctx, nil); err == nil {
		t.Error("a paused server answers")
	}
	n.Resume()
	c.Await()

	mount := n.Mounts()
	n.Kill()
	if n.Serving() || len(mount) != 1 || len(n.Mounts()) != 1 || n.Mounts()[0] != mount[0] {
		t.Errorf("after kill -9: serving %v, mounts %v, before %v", n.Serving(), n.Mounts(), mount)
	}
	serve()
	n.Crash()
	if n.Serving() || len(n.Mounts()) != 0 {
		t.Errorf("after a crash: serving %v, mounts %v", n.Serving(), n.Mounts())
	}
	serve()
	n.await("to mount again", func() bool {
		out, err := n.Run(t.Context(), "timeout", "5", "cat", mnt+"/bkt/file")
		return err == nil && out == "hello\n"
	})
	n.Stop()
}

// Nothing is left of a cluster when its test ends.
func TestNothingIsLeft(t *testing.T) {
	var nets []*launcher
	var root string
	t.Run("cluster", func(t *testing.T) {
		c := New(t, 1)
		c.Nodes[0].Start("sleep", "1000")
		if err := c.Nodes[0].shell.do("mount -t tmpfs tmpfs " + c.Nodes[0].Data); err != nil {
			t.Fatal(err)
		}
		c.Nodes[0].Pause()
		nets, root = []*launcher{c.Nodes[0].shell, c.Client.shell}, c.Nodes[0].Dir
	})
	if nets == nil {
		t.Skip("there was no cluster")
	}
	for _, l := range nets {
		if p := l.processes(); len(p) != 0 || alive(l.sh.Process.Pid) {
			t.Errorf("processes %v", p)
		}
	}
	if b, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(b), root) {
		t.Errorf("mounts of it are left: %v", err)
	}
}

// When the test's process dies, the node's shell kills what it has started.
func TestShellEndsWithItsInput(t *testing.T) {
	c := New(t, 1)
	n := c.Nodes[0]
	pid := n.Start("sleep", "1000")
	n.await("to start", func() bool { return alive(pid) })
	n.shell.in.Close()
	n.await("to end all", func() bool { return !alive(pid) })
}
