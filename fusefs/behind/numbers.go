package behind

import (
	"twofold"
)

const (
	numbersAtOnce = 8192
	numbersLow    = 2048
)

// numbers are inode numbers of the session that no operation has used, in the order in
// which they have to be used. Files.mu guards them.
type numbers struct {
	ranges  []numberRange
	left    int
	asking  bool
	session int // counts sessions
}

type numberRange struct {
	next twofold.Ino
	n    int
}

// take returns a number; 0: there is none now.
func (n *numbers) take() twofold.Ino {
	if len(n.ranges) == 0 {
		return 0
	}
	r := &n.ranges[0]
	ino := r.next
	r.next++
	n.left--
	if r.n--; r.n == 0 {
		n.ranges = n.ranges[1:]
	}
	return ino
}

// number is numbers.take, which sees to it that there will be more; b.mu is held.
func (b *Files) number() twofold.Ino {
	ino := b.numbers.take()
	b.moreNumbers()
	return ino
}

// moreNumbers asks for numbers where few are left; b.mu is held.
func (b *Files) moreNumbers() {
	n := &b.numbers
	if n.left >= numbersLow || n.asking || b.ctx.Err() != nil {
		return
	}
	n.asking = true
	session := n.session
	go func() {
		first, count, err := b.to.Inos(b.ctx, numbersAtOnce)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.numbers.asking = false
		switch {
		case err != nil:
			b.log.Debug("no numbers for new inodes", "err", err)
		case b.numbers.session == session && count > 0: // else they may be another session's
			b.numbers.ranges = append(b.numbers.ranges, numberRange{first, count})
			b.numbers.left += count
		}
		b.broadcast()
	}()
}
