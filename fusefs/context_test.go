package fusefs

import (
	"context"
	"testing"
	"time"
)

// TestRequestCostsLittle: a request that waits for nothing has no channel, timer or goroutine of
// its own; one that waits ends with the mount, and is not watched behind its end: the kernel's
// next request has the same cancel.
func TestRequestCostsLittle(t *testing.T) {
	mount, stop := context.WithCancel(context.Background())
	f := &fsys{ctx: mount}
	cancel := make(chan struct{})
	if n := testing.AllocsPerRun(100, func() { f.request(cancel, 1, time.Minute).end() }); n > 1 {
		t.Errorf("%v allocations", n)
	}
	late := f.request(cancel, 0, 0)
	late.end()
	close(cancel) // of another request by now
	eventually(t, "the end of what waits", func() bool {
		waits := f.request(cancel, 0, 0)
		defer waits.end()
		<-waits.Done()
		return true
	})
	if late.Err() != nil || late.timer != nil {
		t.Errorf("a request is watched behind its end: %v", late.Err())
	}
	waits := f.request(make(chan struct{}), 0, time.Hour)
	defer waits.end()
	done := waits.Done()
	stop()
	<-done
}
