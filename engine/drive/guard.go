package drive

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"twofold/internal/errs"
)

// guard runs a drive's I/O on goroutines of its own, so that a caller comes back at
// its context's end, at the operation's deadline, or when the drive is declared
// offline, even where the file system hangs. What hangs keeps its goroutine, its
// buffers and its place among the at most maxTasks until the kernel lets go of it:
// buffers that a task works on therefore belong to the task, never to the caller.
type guard struct {
	name  string        // for messages
	slots chan struct{} // as many as tasks may run at once

	mu      sync.Mutex
	running map[*task]struct{} // guarded by mu
	hung    int                // tasks past their deadline that still run; guarded by mu
	down    chan struct{}      // closed while the drive is offline; guarded by mu
	isDown  bool               // guarded by mu

	// onHung is called, without mu, when the number of hung tasks leaves or reaches
	// zero; anyHung tells which.
	onHung func()
}

// maxTasks bounds the I/O operations that one drive has under way.
const maxTasks = 128

// A task ends in one of two ways, and which of the two is decided once.
const (
	taskRunning   = 0
	taskDone      = 1 // the caller has, or will have, its result
	taskAbandoned = 2 // the caller has left
)

type task struct {
	fn       func() error
	late     func() // cleans up when fn ended after the caller left; may be nil
	done     chan struct{}
	err      error // valid after done
	state    atomic.Int32
	started  time.Time
	deadline time.Time
	overdue  bool // counted in guard.hung; guarded by guard.mu
}

// abandoned reports whether nobody waits for the task any more, for a task that
// could stop half-way.
func (t *task) abandoned() bool { return t.state.Load() == taskAbandoned }

func newGuard(name string) *guard {
	return &guard{
		name: name, slots: make(chan struct{}, maxTasks),
		running: make(map[*task]struct{}), down: make(chan struct{}),
	}
}

// run runs fn and returns its error; or errs.Unavailable, or errs.Canceled, when it
// did not wait for the end: fn then goes on alone and late is called behind it.
func (g *guard) run(ctx context.Context, op string, limit time.Duration, fn func() error, late func()) error {
	t, err := g.start(ctx, op, limit, fn, late)
	if err != nil {
		return err
	}
	return g.wait(ctx, op, t)
}

// start begins fn. Each start that returns a task is followed by one wait.
func (g *guard) start(ctx context.Context, op string, limit time.Duration, fn func() error, late func()) (*task, error) {
	t := &task{fn: fn, late: late}
	if err := g.launch(ctx, op, limit, t); err != nil {
		return nil, err
	}
	return t, nil
}

// launch is start for a task of which fn and late are set.
func (g *guard) launch(ctx context.Context, op string, limit time.Duration, t *task) error {
	down := g.downChan()
	select {
	case <-down:
		return errs.Newf(op, errs.Unavailable, "%s is offline", g.name)
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, ctx.Err())
	default:
	}
	select {
	case g.slots <- struct{}{}:
	default:
		if err := g.queue(ctx, op, limit, down); err != nil {
			return err
		}
	}
	t.done = make(chan struct{})
	t.started = time.Now()
	t.deadline = t.started.Add(limit)
	g.mu.Lock()
	g.running[t] = struct{}{}
	g.mu.Unlock()
	go g.work(t)
	return nil
}

// queue waits for a place.
func (g *guard) queue(ctx context.Context, op string, limit time.Duration, down <-chan struct{}) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-down:
		return errs.Newf(op, errs.Unavailable, "%s is offline", g.name)
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, ctx.Err())
	case <-timer.C:
		return errs.Newf(op, errs.Unavailable, "%s has %d operations under way and none ended in %v", g.name, maxTasks, limit)
	}
}

func (g *guard) work(t *task) {
	t.err = t.fn()
	if !t.state.CompareAndSwap(taskRunning, taskDone) && t.late != nil {
		t.late()
	}
	g.mu.Lock()
	delete(g.running, t)
	over := t.overdue
	if over {
		g.hung--
	}
	recovered := over && g.hung == 0
	g.mu.Unlock()
	<-g.slots
	close(t.done)
	if recovered && g.onHung != nil {
		g.onHung()
	}
}

// wait waits for t, or leaves it.
func (g *guard) wait(ctx context.Context, op string, t *task) error {
	select {
	case <-t.done:
		return t.err
	default:
	}
	timer := time.NewTimer(time.Until(t.deadline))
	defer timer.Stop()
	var err error
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		err = errs.E(op, errs.Canceled, ctx.Err())
	case <-g.downChan():
		err = errs.Newf(op, errs.Unavailable, "%s went offline", g.name)
	case <-timer.C:
		err = errs.Newf(op, errs.Unavailable, "%s did not answer in %v", g.name, t.deadline.Sub(t.started))
		g.overdue(t)
	}
	if !t.state.CompareAndSwap(taskRunning, taskAbandoned) {
		<-t.done // it ended just now, and has its result
		return t.err
	}
	return err
}

// overdue counts t as hung if it still runs.
func (g *guard) overdue(t *task) {
	g.mu.Lock()
	_, runs := g.running[t]
	first := false
	if runs && !t.overdue {
		t.overdue = true
		g.hung++
		first = g.hung == 1
	}
	g.mu.Unlock()
	if first && g.onHung != nil {
		g.onHung()
	}
}

// oldest is how long the oldest task has been running. It also counts those past
// their deadline as hung, whose callers left before it.
func (g *guard) oldest(now time.Time) time.Duration {
	var age time.Duration
	var late []*task
	g.mu.Lock()
	for t := range g.running {
		age = max(age, now.Sub(t.started))
		if now.After(t.deadline) && !t.overdue {
			late = append(late, t)
		}
	}
	g.mu.Unlock()
	for _, t := range late {
		g.overdue(t)
	}
	return age
}

// anyHung reports whether a task is past its deadline.
func (g *guard) anyHung() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hung > 0
}

// idle reports whether nothing runs.
func (g *guard) idle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.running) == 0
}

func (g *guard) downChan() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down
}

// setDown makes every waiting and every coming operation fail at once, or lets them
// through again.
func (g *guard) setDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case down && !g.isDown:
		close(g.down)
	case !down && g.isDown:
		g.down = make(chan struct{})
	}
	g.isDown = down
}
