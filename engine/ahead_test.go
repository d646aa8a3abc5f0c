package engine

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"twofold/engine/internal/memdrive"
)

// counted counts what is read of it.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestManyWritesHoldFewStripes: while the drives take their time, many writes at once
// have no more of their content in memory than a stripe each and aheadStripes. All of
// them end, and nothing of the bound is lost.
func TestManyWritesHoldFewStripes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = aheadStripes + 8
		r := newRig(t, 4, 2, func(o *Options) { o.Grace, o.WriteTimeout = time.Hour, time.Hour })
		release := make(chan struct{})
		for _, d := range r.drives {
			d.SetFault(hang(release, memdrive.Block))
		}
		var read atomic.Int64
		var wg sync.WaitGroup
		want := content(6<<20, 1)
		for range streams {
			id := r.id()
			wg.Go(func() {
				_, err := r.e.Write(context.Background(), WriteOptions{ID: id, Parity: -1}, counted{bytes.NewReader(want), &read})
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := read.Load() >> 20; n < streams || n > streams+aheadStripes {
			t.Errorf("%d MiB were read", n)
		}
		close(release)
		wg.Wait()
		r.idle()
		if n := r.e.ahead.stripes.Load(); n != 0 {
			t.Errorf("%d stripes still count", n)
		}
	})
}

// TestStalledClientsHoldNothingOfOthers: clients that stop sending leave all of
// aheadStripes to others.
func TestStalledClientsHoldNothingOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 4, 2)
		stalled, end := io.Pipe()
		var wg sync.WaitGroup
		want := content(3<<20+5, 1)
		for range aheadStripes + 8 {
			id := r.id()
			wg.Go(func() {
				_, err := r.e.Write(context.Background(), WriteOptions{ID: id, Parity: -1}, io.MultiReader(bytes.NewReader(want), stalled))
				if err == nil {
					t.Error("a write without an end is done")
				}
			})
		}
		synctest.Wait()
		if n := r.e.ahead.stripes.Load(); n != 0 {
			t.Errorf("%d stripes of clients that wait count", n)
		}
		r.mustWrite(want)
		end.CloseWithError(io.ErrUnexpectedEOF)
		wg.Wait()
	})
}
