package bench

import (
	"context"
	"crypto/rand"
	"fmt"
)

// S3Options choose the S3 workload.
type S3Options struct {
	Bucket       string
	SmallSize    int // bytes of a small object
	SmallCount   int
	SmallClients int
	LargeSize    int
	LargeCount   int
	LargeClients int
	ListKeys     int // keys of the bucket that is listed; 0: no listing
	ListClients  int // clients that fill it
}

// S3Load is the S3 workload on one endpoint.
type S3Load struct {
	c     *S3
	o     S3Options
	small []byte
	large []byte
}

var _ Workload = (*S3Load)(nil)

// NewS3Load makes the bucket.
func NewS3Load(ctx context.Context, c *S3, o S3Options) (*S3Load, error) {
	l := &S3Load{c: c, o: o, small: make([]byte, o.SmallSize), large: make([]byte, o.LargeSize)}
	rand.Read(l.small)
	rand.Read(l.large)
	return l, c.MakeBucket(ctx, o.Bucket)
}

func (l *S3Load) key(kind string, r, i int) string {
	return fmt.Sprintf("%s/%d/%02x/%06d", kind, r, i%64, i)
}

// Steps implements Workload.
func (l *S3Load) Steps(r int) []Step {
	o := l.o
	steps := []Step{
		{Name: "PUT " + size(o.SmallSize), Clients: o.SmallClients, Count: o.SmallCount, Bytes: int64(o.SmallSize),
			Do: func(ctx context.Context, i int) error {
				return l.c.Put(ctx, o.Bucket, l.key("small", r, i), l.small)
			}},
		{Name: "GET " + size(o.SmallSize), Clients: o.SmallClients, Count: 2 * o.SmallCount, Bytes: int64(o.SmallSize),
			Do: func(ctx context.Context, i int) error {
				return l.c.Get(ctx, o.Bucket, l.key("small", r, i*7919%o.SmallCount), int64(o.SmallSize))
			}},
		{Name: "PUT " + size(o.LargeSize), Clients: o.LargeClients, Count: o.LargeCount, Bytes: int64(o.LargeSize),
			Do: func(ctx context.Context, i int) error {
				return l.c.Put(ctx, o.Bucket, l.key("large", r, i), l.large)
			}},
		{Name: "GET " + size(o.LargeSize), Clients: o.LargeClients, Count: 2 * o.LargeCount, Bytes: int64(o.LargeSize),
			Do: func(ctx context.Context, i int) error {
				return l.c.Get(ctx, o.Bucket, l.key("large", r, i%o.LargeCount), int64(o.LargeSize))
			}},
	}
	if o.ListKeys > 0 {
		if r == 0 {
			steps = append(steps, Step{Name: "fill for LIST", Clients: o.ListClients, Count: o.ListKeys,
				Do: func(ctx context.Context, i int) error {
					return l.c.Put(ctx, o.Bucket, fmt.Sprintf("list/%03d/key-%08d", i%100, i), nil)
				}})
		} else { // there already: the step keeps its place in the table
			steps = append(steps, Step{Name: "fill for LIST", Clients: 1, Count: 0})
		}
		steps = append(steps, Step{Name: fmt.Sprintf("LIST %d keys", o.ListKeys), Clients: 1, Count: 2,
			Do: func(ctx context.Context, _ int) error {
				n, err := l.c.CountKeys(ctx, o.Bucket, "list/")
				if err == nil && n != o.ListKeys {
					err = fmt.Errorf("LIST has %d keys, want %d", n, o.ListKeys)
				}
				return err
			}})
	}
	return steps
}

// Clean implements Workload. What is listed stays for the next round.
func (l *S3Load) Clean(ctx context.Context, r int) error {
	for kind, n := range map[string]int{"small": l.o.SmallCount, "large": l.o.LargeCount} {
		var res Result
		if err := res.run(ctx, Step{Clients: 16, Count: n, Do: func(ctx context.Context, i int) error {
			return l.c.Delete(ctx, l.o.Bucket, l.key(kind, r, i))
		}}); err != nil {
			return err
		}
	}
	return nil
}

func size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}
