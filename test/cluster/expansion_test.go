package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestPoolIsAdded: a pool is added by a restart of one node after the other with one argument
// more, while clients write. Then objects go to it as well, and the store is not opened
// without it.
func TestPoolIsAdded(t *testing.T) {
	if !*long {
		t.Skip("with -cluster.long")
	}
	c := New(t, 4)
	first := c.Drives(1)
	second := fmt.Sprintf("http://node{1...4}:9000%s/more{1...1}", c.Client.Data)
	for _, n := range c.Nodes {
		if err := os.Mkdir(filepath.Join(n.Dir, "data", "more1"), 0o755); err != nil {
			t.Fatal(err)
		}
		n.Serve(first)
	}
	c.Await()
	if _, err := c.S3(c.Nodes[0]).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("cluster")}); err != nil {
		t.Fatal(err)
	}
	o := &objects{c: c, all: map[string][]byte{}}
	for i, n := range c.Nodes {
		other := c.Nodes[(i+1)%4]
		n.Stop()
		c.eventually("a write while "+n.Name+" is away", func() error { return o.put(other, 20*time.Second) })
		n.Serve(first, second)
		c.Await(n)
		c.eventually("a write at "+n.Name, func() error { return o.put(n, 20*time.Second) })
	}
	c.eventually("the pool is added", func() error {
		for _, n := range c.Nodes {
			if strings.Contains(n.Said(), "a pool was added to the store") {
				return nil
			}
		}
		return fmt.Errorf("no node says so")
	})
	c.eventually("objects go to it", func() error {
		if err := o.put(c.Nodes[2], 20*time.Second); err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(c.Nodes[1].Dir, "data", "more1", "blobs", "*", "*"))
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("no shard on the new drive of %s", c.Nodes[1].Name)
		}
		return err
	})
	for _, n := range c.Nodes {
		c.eventually("reads at "+n.Name, func() error { return o.check(n) })
	}
	for _, n := range c.Nodes {
		n.Stop()
	}
	for _, n := range c.Nodes {
		n.Serve(first)
	}
	c.eventually("the store is refused without the pool", func() error {
		for _, n := range c.Nodes {
			if !n.Serving() && strings.Contains(n.Said(), "the store has 2 pools and the command line gives 1") {
				return nil
			}
		}
		return fmt.Errorf("no node ends and says why")
	})
}
