package node

import (
	"strings"
	"time"
)

// leaderless is how long nobody may lead before that is said: a change of leader is
// shorter.
const leaderless = 5 * time.Second

// tellLeader logs which other node leads, each time that it is another one, and that
// nobody does where that lasts, as far as this node knows: where the one that led is
// still up it alone finds out, because Where has it until there is a later term. The node
// that leads says so itself. It returns when the node closes.
func (n *Node) tellLeader() {
	last := ""         // who was said to lead
	var nobody nobodys // since nobody leads
	for {
		down := n.opts.Cluster.Peers.Watch()
		url, here, changed := n.Where()
		switch {
		case url == "":
			if nobody.lasts() {
				n.log.Warn("no node leads the store: S3 is answered 503, and mounts wait, until a majority of the nodes that have the metadata is there",
					"waiting", strings.Join(n.waitsForDown(), "; "))
				last = ""
			}
		case url != last:
			if !here {
				n.log.Info("another node leads the store", "node", url)
			}
			last = url
		}
		if url != "" {
			nobody = nobodys{}
		}
		select {
		case <-n.ctx.Done():
			return
		case <-changed:
		case <-down:
		case <-time.After(time.Second): // not every end of a lead is told as a change
		}
	}
}

// nobodys is a time in which nobody leads. The zero value has not begun.
type nobodys struct {
	since time.Time
	said  bool
}

// lasts reports, once, that it has been long.
func (t *nobodys) lasts() bool {
	if t.since.IsZero() {
		t.since = time.Now()
	}
	if t.said || time.Since(t.since) < leaderless {
		return false
	}
	t.said = true
	return true
}

// How often the same text is said at most while others come in between, and how long it
// has to last then: a node that comes and goes many times in a second is no news.
const (
	sayAgain = 30 * time.Second
	sayAfter = 3 * time.Second
)

// said keeps people from being told the same many times. The zero value has said nothing.
type said struct {
	last  string // what was said last
	now   string // what is to be said, since when
	since time.Time
	when  map[string]time.Time // what was said when
}

// isNews reports whether a text is to be said at a time: when it is another one than was
// said last, and, where it was said a moment ago, when it stays.
func (s *said) isNews(text string, at time.Time) bool {
	if text != s.now {
		s.now, s.since = text, at
	}
	if text == s.last {
		return false
	}
	if before, ok := s.when[text]; ok && at.Sub(before) < sayAgain && at.Sub(s.since) < sayAfter {
		return false
	}
	if s.when == nil || len(s.when) > 100 {
		s.when = map[string]time.Time{}
	}
	s.last = text
	s.when[text] = at
	return true
}
