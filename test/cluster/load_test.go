package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// load writes through S3 at every node, and through a mount, without a pause, and
// remembers what was acknowledged: once there, always there. Each writer has its own keys and
// writes each once, so that what is to be read is never in doubt (test/history has clients that
// change each other's).
type load struct {
	c      *Cluster
	bucket string

	stop    context.CancelFunc
	wg      sync.WaitGroup
	writers []*writer // one for each node, and those of the mount
}

// writer is one loop of writes.
type writer struct {
	name  string
	node  *Node // nil: the mount
	write func(ctx context.Context, key string, body []byte) error

	mu     sync.Mutex
	acked  map[string]uint64 // key: seed of the content; guarded by mu
	times  []time.Time       // of acknowledgements since reset; guarded by mu
	failed int               // guarded by mu
	last   error             // guarded by mu
}

// content is what is written under a seed: small mostly, sometimes several stripes.
func content(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	size := 1 + r.IntN(8<<10)
	if r.IntN(8) == 0 {
		size = r.IntN(3 << 20)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// newLoad begins to write into a bucket that is there; dir is where the bucket is mounted for
// this process, "" for no mount. seed makes names and contents.
func newLoad(c *Cluster, bucket, dir string, seed uint64) *load {
	l := &load{c: c, bucket: bucket}
	for _, n := range c.Nodes {
		client := c.S3(n, patient)
		l.add(&writer{name: "S3 at " + n.Name, node: n, write: func(ctx context.Context, key string, body []byte) error {
			_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
			return err
		}})
	}
	if dir != "" {
		l.add(&writer{name: "the mount", write: func(_ context.Context, key string, body []byte) error {
			return writeSynced(filepath.Join(dir, key), body)
		}})
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	for i, w := range l.writers {
		l.wg.Go(func() { w.run(ctx, fmt.Sprintf("w%d-%d", i, seed), seed<<16+uint64(i)<<8) })
	}
	return l
}

// pauseOf is between a writer's writes.
const pauseOf = 50 * time.Millisecond

func (l *load) add(w *writer) {
	w.acked = map[string]uint64{}
	l.writers = append(l.writers, w)
}

// writeSynced makes a file that is durable when it returns.
func writeSynced(path string, body []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// attempt is how long one write may take: longer than any fail-over, so that what is
// measured is the store and not this client's impatience.
const attempt = 3 * time.Minute

func (w *writer) run(ctx context.Context, prefix string, seed uint64) {
	for i := uint64(0); ctx.Err() == nil; i++ {
		key, s := fmt.Sprintf("%s-%d", prefix, i), seed*1_000_003+i
		each, cancel := context.WithTimeout(ctx, attempt)
		err := w.write(each, key, content(s))
		cancel()
		w.mu.Lock()
		if err == nil {
			w.acked[key] = s
			w.times = append(w.times, time.Now())
		} else if ctx.Err() == nil {
			w.failed++
			w.last = err
		}
		w.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pauseOf):
		}
	}
}

// since is when a write was acknowledged first that ended after a moment; zero: none yet.
func (w *writer) since(begin time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.times {
		if t.After(begin) {
			return t
		}
	}
	return time.Time{}
}

// gap is the longest time between acknowledgements from begin to end; what was not
// acknowledged at end counts as well.
func (w *writer) gap(begin, end time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := begin
	for _, t := range w.times {
		if t.After(begin) && t.Before(end) {
			longest, last = max(longest, t.Sub(last)), t
		}
	}
	return max(longest, end.Sub(last))
}

// count is the number of acknowledged and of failed writes.
func (w *writer) count() (acked, failed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked), w.failed
}

// but are the writers that do not go through any of the given nodes.
func (l *load) but(nodes ...*Node) (out []*writer) {
	for _, w := range l.writers {
		in := false
		for _, n := range nodes {
			in = in || w.node == n
		}
		if !in {
			out = append(out, w)
		}
	}
	return out
}

// end stops writing and waits for what is under way.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// all lists the keys that were acknowledged, with the seeds of their contents.
func (w *writer) all() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.acked)
}

// check reads what was acknowledged to anyone, of each key at one of the nodes: all, or
// some that rng chooses. It returns how many were read.
func (l *load) check(rng *rand.Rand, share float64, nodes ...*Node) (n int, err error) {
	for _, w := range l.writers {
		for key, seed := range w.all() {
			if rng.Float64() >= share {
				continue
			}
			at := nodes[n%len(nodes)]
			n++
			if err := l.read(l.c.S3(at, patient), key, content(seed)); err != nil {
				return n, fmt.Errorf("%s, acknowledged to %s, read at %s: %w", key, w.name, at.Name, err)
			}
		}
	}
	return n, nil
}

// checkMount reads the same in a mount.
func (l *load) checkMount(rng *rand.Rand, share float64, dir string) (n int, err error) {
	for _, w := range l.writers {
		for key, seed := range w.all() {
			if rng.Float64() >= share {
				continue
			}
			n++
			got, err := os.ReadFile(filepath.Join(dir, key))
			if err == nil && !bytes.Equal(got, content(seed)) {
				err = fmt.Errorf("%d bytes that were not written", len(got))
			}
			if err != nil {
				return n, fmt.Errorf("%s, acknowledged to %s, read in the mount: %w", key, w.name, err)
			}
		}
	}
	return n, nil
}

func (l *load) read(client *s3.Client, key string, want []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), attempt)
	defer cancel()
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(l.bucket), Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%d bytes that are not the %d that were written", len(got), len(want))
	}
	return err
}
