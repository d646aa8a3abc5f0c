package cluster

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

var (
	duration = flag.Duration("cluster.duration", 0, "how long TestFaults goes on; 0: the leading node is paused once")
	seed     = flag.Uint64("cluster.seed", 1, "of faults, and of what is written")
	only     = flag.String("cluster.fault", "", "of all faults this one alone")
	keep     = flag.String("cluster.keep", "", "a directory for the nodes' logs")
)

// mount mounts a bucket on the client's machine, with all nodes given, and returns where this
// process finds it.
func (c *Cluster) mount(bucket string) string {
	c.t.Helper()
	dir := filepath.Join(c.Client.Dir, "mnt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	args := []string{harness.Binary(c.t), "mount"}
	for _, n := range c.Nodes {
		args = append(args, "--endpoint", "http://"+n.Name+":9000")
	}
	c.Client.Start(append(args, bucket, dir)...)
	at := c.Client.Path(dir)
	c.eventually("mounted", func() error {
		if err := writeSynced(filepath.Join(at, "first"), nil); err != nil {
			return err
		}
		if os.Remove(filepath.Join(dir, "first")) == nil { // this process sees what is under the mount
			return fmt.Errorf("not yet")
		}
		return nil
	})
	return at
}

// TestFaults has faults befall the nodes one after the other, under load at all nodes and in a
// mount. Writes go on beside each fault that leaves a majority, and at every node after each;
// and all that was acknowledged is there: some of it is read after each fault, all at the end.
func TestFaults(t *testing.T) {
	c := New(t, 4)
	for _, n := range c.Nodes {
		n.Serve(c.Drives(1))
	}
	c.Await()
	if _, err := c.S3(c.Nodes[3], patient).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("cluster")}); err != nil {
		t.Fatal(err)
	}
	dir := c.mount("cluster")
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 0))
	l := newLoad(c, "cluster", dir, *seed)
	defer l.end()
	c.goOn(l.writers, time.Now())

	faults, counts := c.faults(rng), map[string]int{}
	longest, after := map[string]time.Duration{}, map[string]time.Duration{}
	next := func() (fault, *Node) {
		f, n := faults[rng.IntN(len(faults))], c.leading()
		if rng.IntN(3) == 0 {
			n = c.Nodes[rng.IntN(len(c.Nodes))]
		}
		return f, n
	}
	befall := func(f fault, n *Node) {
		role := "a node"
		if n == c.leading() {
			role = "the leading node"
		}
		what := role + " " + f.name
		counts[what]++
		begin := time.Now()
		t.Logf("%s: %s, %s", begin.Format("15:04:05.000"), n.Name, what)
		f.begin(n)
		if f.single {
			c.goOn(l.but(n), begin.Add(time.Second))
			time.Sleep(time.Until(begin.Add(3 * time.Second))) // a time under load
			end := time.Now()
			for _, w := range l.but(n) {
				if gap := w.gap(begin, end); gap > longest[what] {
					longest[what] = gap
				}
			}
		} else {
			time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
		}
		f.end(n)
		begin = time.Now()
		c.goOn(l.writers, begin)
		for _, w := range l.writers {
			if gap := w.since(begin).Sub(begin); gap > after[what] {
				after[what] = gap
			}
		}
		if n, err := l.check(rng, min(1, 100/float64(l.count()+1)), c.Nodes...); err != nil {
			t.Fatal(err)
		} else if n == 0 {
			t.Error("nothing was read")
		}
	}
	if *duration == 0 {
		befall(faults[1], c.leading()) // the fault that is the hardest to tell from slowness
	}
	for began := time.Now(); time.Since(began) < *duration; {
		if f, n := next(); *only == "" || *only == f.name {
			befall(f, n)
		}
	}
	l.end()
	share := min(1, 20_000/float64(l.count()+1))
	read, err := l.check(rng, share, c.Nodes...)
	if err != nil {
		t.Error(err)
	}
	mounted, err := l.checkMount(rng, share/4, dir)
	if err != nil {
		t.Error(err)
	}
	for _, w := range l.writers {
		acked, failed := w.count()
		t.Logf("%s: %d writes acknowledged, %d failed (the last: %v)", w.name, acked, failed, w.last)
	}
	for what, n := range counts {
		during := ""
		if longest[what] > 0 {
			during = fmt.Sprintf("writes stood still for at most %v, and ", longest[what].Round(10*time.Millisecond))
		}
		t.Logf("%d times %s: %sall writers went on %v after its end", n, what, during, after[what].Round(10*time.Millisecond))
	}
	t.Logf("seed %d: %d objects acknowledged, %d of them read in S3, %d in the mount", *seed, l.count(), read, mounted)
	if *keep != "" {
		for _, n := range append(c.Nodes, c.Client) {
			b, err := os.ReadFile(filepath.Join(n.Dir, "log"))
			if err == nil {
				err = os.WriteFile(filepath.Join(*keep, n.Name), b, 0o644)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// goOn waits until each of the writers had a write acknowledged after begin.
func (c *Cluster) goOn(writers []*writer, begin time.Time) {
	c.t.Helper()
	for end := time.Now().Add(90 * time.Second); len(writers) > 0; time.Sleep(10 * time.Millisecond) {
		w := writers[0]
		if !w.since(begin).IsZero() {
			writers = writers[1:]
		} else if time.Now().After(end) {
			w.mu.Lock()
			defer w.mu.Unlock()
			c.t.Fatalf("%s: no write is acknowledged; the last error: %v", w.name, w.last)
		}
	}
}

// count is how many writes were acknowledged.
func (l *load) count() (n int) {
	for _, w := range l.writers {
		acked, _ := w.count()
		n += acked
	}
	return n
}
