package peers

import "sync"

// said remembers what was logged last of each node, so that it is said once until it
// changes. Safe for concurrent use.
type said struct {
	mu   sync.Mutex
	last map[string]string // guarded by mu
}

const maxSaid = 1024 // then it forgets all

// say calls log where what is new about who; "" is nothing to say, and forgets.
func (s *said) say(who, what string, log func()) {
	s.mu.Lock()
	was := s.last[who]
	switch {
	case what == "":
		delete(s.last, who)
	case s.last == nil || len(s.last) >= maxSaid && was == "":
		s.last = map[string]string{who: what}
	default:
		s.last[who] = what
	}
	s.mu.Unlock()
	if what != "" && what != was {
		log()
	}
}
