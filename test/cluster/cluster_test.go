package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// long does all faults, each to each node, and not one to the leading node alone.
var long = flag.Bool("cluster.long", false, "all faults, each on each node")

// objects are what was acknowledged in bucket "cluster": once there, always there.
type objects struct {
	c    *Cluster
	mu   sync.Mutex
	all  map[string][]byte
	next int
}

// put writes a small and a large object at a node; both are noted if they were acknowledged.
func (o *objects) put(n *Node, timeout time.Duration) error {
	o.mu.Lock()
	o.next++
	number := o.next
	o.mu.Unlock()
	large := make([]byte, 300_000)
	rand.Read(large)
	for key, body := range map[string][]byte{fmt.Sprintf("%d/small", number): []byte(fmt.Sprint("small ", number)), fmt.Sprintf("%d/large", number): large} {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, err := o.c.S3(n).PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("cluster"), Key: &key, Body: bytes.NewReader(body)})
		cancel()
		if err != nil {
			return fmt.Errorf("PUT at %s: %w", n.Name, err)
		}
		o.mu.Lock()
		o.all[key] = body
		o.mu.Unlock()
	}
	return nil
}

func (o *objects) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

// check reads everything that was acknowledged at a node.
func (o *objects) check(n *Node) error {
	for key, want := range o.all {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := o.c.S3(n).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("cluster"), Key: &key})
		if err == nil {
			var got []byte
			if got, err = io.ReadAll(out.Body); err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("%d bytes that were not written", len(got))
			}
			out.Body.Close()
		}
		cancel()
		if err != nil {
			return fmt.Errorf("GET %s at %s: %w", key, n.Name, err)
		}
	}
	return nil
}

// eventually tries until it works, or a minute and a half is over.
func (c *Cluster) eventually(what string, try func() error) {
	c.t.Helper()
	var err error
	begin := time.Now()
	for time.Since(begin) < 90*time.Second {
		if err = try(); err == nil {
			c.t.Logf("%s: after %v", what, time.Since(begin).Round(time.Millisecond))
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatalf("%s: %v", what, err)
}

// leading is the node that leads, by what it said last.
func (c *Cluster) leading() *Node {
	c.t.Helper()
	var found *Node
	c.eventually("a node leads", func() error {
		found = nil
		for _, n := range c.Nodes {
			log := n.Said()
			if n.Serving() && strings.LastIndex(log, "this node leads the store") > strings.LastIndex(log, "this node does not lead") {
				if found != nil {
					return fmt.Errorf("%s and %s say so", found.Name, n.Name)
				}
				found = n
			}
		}
		if found == nil {
			return fmt.Errorf("none says so")
		}
		return nil
	})
	return found
}

// victims are the nodes that a fault is done to.
func (c *Cluster) victims() []*Node {
	if *long {
		return c.Nodes
	}
	return []*Node{c.leading()}
}

func without(nodes []*Node, n *Node) (out []*Node) {
	for _, m := range nodes {
		if m != n {
			out = append(out, m)
		}
	}
	return out
}

// TestCluster: four machines are one store. With any one of them dead (with
// -cluster.long also paused, cut off, or unheard) the others go on; cut in half, neither
// half acknowledges anything; and what was acknowledged is at every node afterwards.
func TestCluster(t *testing.T) {
	c := New(t, 4)
	serve := func(nodes ...*Node) {
		for _, n := range nodes {
			n.Serve(c.Drives(1))
		}
	}
	serve(c.Nodes...)
	c.Await()
	if _, err := c.S3(c.Nodes[3]).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("cluster")}); err != nil {
		t.Fatal(err)
	}
	o := &objects{c: c, all: map[string][]byte{}}
	works := func(what string, nodes ...*Node) {
		t.Helper()
		for _, n := range nodes {
			c.eventually(what+": writes at "+n.Name, func() error { return o.put(n, 20*time.Second) })
		}
		for _, n := range nodes {
			c.eventually(what+": reads at "+n.Name, func() error { return o.check(n) })
		}
	}
	works("whole", c.Nodes...)

	faults := []struct {
		name  string
		begin func(n *Node)
		end   func(n *Node)
	}{
		{"killed", (*Node).Crash, func(n *Node) { serve(n) }},
		{"paused", (*Node).Pause, (*Node).Resume},
		{"cut off", func(n *Node) { c.Net.Isolate(n.Number) }, func(*Node) { c.Net.All(Link{}) }},
		{"mute", func(n *Node) { // it hears the others, and they don't hear it
			for _, m := range without(c.Nodes, n) {
				c.Net.Set(n.Number, m.Number, Link{Cut: true})
			}
		}, func(*Node) { c.Net.All(Link{}) }},
	}
	if !*long {
		faults = faults[:1]
	}
	for _, fault := range faults {
		for _, n := range c.victims() {
			fault.begin(n)
			works(n.Name+" is "+fault.name, without(c.Nodes, n)...)
			fault.end(n)
			works(n.Name+" was "+fault.name, n)
		}
	}

	// Half and half: neither is a majority of the metadata. What was acknowledged up to
	// here was so under the lease of the node that led.
	c.Net.Partition([]int{0, 1}, []int{2, 3})
	acknowledged := func() int { // of writes at all nodes at once, in two seconds each
		before := o.count()
		var wg sync.WaitGroup
		for _, n := range c.Nodes {
			wg.Go(func() { o.put(n, 2*time.Second) })
		}
		wg.Wait()
		return o.count() - before
	}
	c.eventually("the halves notice", func() error {
		if n := acknowledged(); n != 0 {
			return fmt.Errorf("%d writes are acknowledged", n)
		}
		return nil
	})
	if n := acknowledged(); n != 0 {
		t.Errorf("%d writes are acknowledged with half of the nodes", n)
	}
	c.Net.All(Link{})
	works("together again", c.Nodes...)

	if *long {
		for _, n := range c.Nodes {
			n.Crash()
		}
		serve(c.Nodes...)
		works("all were killed", c.Nodes...)
	}
	for _, n := range c.Nodes {
		n.Stop()
	}
}
