package volume

import (
	"cmp"
	"slices"
	"time"

	"twofold"
)

// Mount is what is known of a mount's session, for operators.
type Mount struct {
	Session   twofold.SessionID
	Process   string // procid of the mount
	Peer      string // the address that it is connected from; empty while it is not
	Connected bool
	Silent    time.Duration // nothing was heard of it for so long
	Opens     int           // inodes that it has open
}

// Mounts lists the mounts that have a session, also those that were connected before this
// volume was opened and have not come back, by session.
func (v *Volume) Mounts() []Mount {
	v.mu.Lock()
	var live []*Session
	for _, s := range v.sessions {
		live = append(live, s)
	}
	var all []Mount
	for id, node := range v.expected {
		all = append(all, Mount{Session: id, Process: node, Silent: time.Since(v.began)})
	}
	v.mu.Unlock()
	for _, s := range live {
		all = append(all, s.mount())
	}
	slices.SortFunc(all, func(a, b Mount) int { return cmp.Compare(a.Session, b.Session) })
	return all
}

func (s *Session) mount() Mount {
	m := Mount{Session: s.id, Process: s.node}
	if p, ok := s.holder.(interface{ Peer() string }); ok { // before s.mu, which that one's lock comes before
		m.Peer = p.Peer()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Connected, m.Silent, m.Opens = s.connected, time.Since(s.heard), len(s.opens)
	return m
}
