package replica

import (
	"sync"
	"time"
)

// instant is a moment by both clocks of a machine. The monotonic one measures; the
// one on the wall is looked at as well, because CLOCK_MONOTONIC stands still while a
// machine sleeps (clock_gettime(2)).
type instant struct{ mono, wall time.Duration }

func (i instant) add(d time.Duration) instant { return instant{i.mono + d, i.wall + d} }

// before reports whether i is before j by both clocks.
func (i instant) before(j instant) bool { return i.mono < j.mono && i.wall < j.wall }

// clock tells the time. Safe for concurrent use.
type clock func() instant

func machineClock() clock {
	base := time.Now()
	return func() instant {
		now := time.Now()
		return instant{mono: now.Sub(base), wall: time.Duration(now.UnixNano())}
	}
}

// pledge is what a replica has promised to leaders in other processes, or its own:
// not to vote, and not to ask for votes, for some time. DESIGN.md has the argument.
// It is in memory: a replica that starts again is quiet for as long as a promise
// lasts. Safe for concurrent use.
type pledge struct {
	clock clock
	term  func() uint64 // the replica's current term

	mu     sync.Mutex
	quiet  time.Duration // guarded by mu; monotonic: promises may be in force of before the start
	until  time.Duration // guarded by mu; monotonic: end of the latest promise
	to     uint64        // guarded by mu; the term that it was given to
	round  uint64        // guarded by mu; the latest of that term's rounds
	voting int           // guarded by mu; requests for a vote that the library has and has not answered
}

// newPledge is of a replica that starts. It is quiet for so long.
func newPledge(c clock, term func() uint64, quiet time.Duration) *pledge {
	return &pledge{clock: c, term: term, quiet: c().mono + quiet}
}

// give promises the leader of a term not to vote in a later one for d from now. It is
// refused when the replica has voted in a later term, or is about to.
func (p *pledge) give(term, round uint64, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The order matters: a vote that the library has is counted in voting until it
	// is answered, and afterwards the term tells.
	if p.voting > 0 || p.term() > term || term < p.to {
		return false
	}
	if term > p.to {
		p.to, p.round = term, 0
	}
	p.round = max(p.round, round)
	p.until = max(p.until, p.clock().mono+d)
	return true
}

// release ends the promise to a term's leader, who says that it counts on none of
// the rounds up to this one any more. A late release ends no later promise.
func (p *pledge) release(term, round uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == term && p.round <= round {
		p.until = 0
	}
}

// bound reports whether the replica must neither vote nor ask for votes now.
func (p *pledge) bound() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.boundLocked()
}

func (p *pledge) boundLocked() bool {
	now := p.clock().mono
	return now < p.until || now < p.quiet
}

// beginVote reports whether the library may be asked for a vote. If so, endVote is
// called when it has answered, or never will.
func (p *pledge) beginVote() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.boundLocked() {
		return false
	}
	p.voting++
	return true
}

func (p *pledge) endVote() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.voting--
}

// lapsed is when the latest promise ended, if it has and no later one was made; false:
// none was made, or the replica is bound still.
func (p *pledge) lapsed() (ago, at time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == 0 || p.boundLocked() {
		return 0, 0, false
	}
	return p.clock().mono - p.until, p.until, true
}
