package main

import (
	"fmt"
	"time"
)

// limits are the supervisor's. The zero value of none of them means anything.
type limits struct {
	// look is the time between looks at the worker.
	look time.Duration
	// silence is how many looks in a row may find no sign of life. They are counted,
	// not timed: while the supervisor itself does not run, because the machine is
	// suspended or everything is stopped, no look is missed (a ticker drops them).
	silence int
	// stopped is the same for a worker that somebody has stopped: SIGSTOP, a debugger,
	// a core dump of it being taken.
	stopped int
	// dead is the same for one that died and is not gone.
	dead int
	// reap is how long a killed worker is waited for.
	reap time.Duration
	// stop is how long a worker may take to end after SIGTERM. It cuts requests off
	// after drainTimeout itself, and closes the store in as long again.
	stop time.Duration
	// pause is the longest one before another worker is started.
	pause time.Duration
}

// defaultLimits: a worker gives a sign of life each second, from a goroutine that does
// nothing else. Ten seconds without one are more than a loaded or swapping machine
// takes to let one goroutine run once, and less than clients wait for an answer.
func defaultLimits() limits {
	return limits{
		look: time.Second, silence: 10, stopped: 60, dead: 3,
		reap: 3 * time.Second, stop: 2*drainTimeout + 15*time.Second, pause: 5 * time.Second,
	}
}

// pulse feels whether a worker lives.
type pulse struct {
	w      *worker
	limits *limits
	beats  uint64 // at the last look
	silent int    // looks since there were more
	dead   int    // looks since it died
}

// look is called every limits.look. An error says why the worker has to be killed.
func (p *pulse) look() error {
	if n := p.w.beats.Load(); n != p.beats {
		p.beats, p.silent = n, 0
	} else {
		p.silent++
	}
	limit := p.limits.silence
	switch p.w.state() {
	case 'T', 't':
		limit = p.limits.stopped
	case 'Z', 'X':
		if p.dead++; p.dead > p.limits.dead {
			return errStuck
		}
	}
	if p.silent < limit {
		return nil
	}
	return fmt.Errorf("no sign of life for %v: a drive that hangs is the expected cause", time.Duration(p.silent)*p.limits.look)
}
