//go:build plant

package fusefs

import (
	"sync"
	"time"

	"twofold"
	"twofold/internal/plant"
	"twofold/volume/api"
)

var beforeAttrs struct {
	sync.Mutex
	last map[twofold.Ino]api.Attr
	at   map[twofold.Ino]time.Time
}

// before is what was answered for the inode the last time, if that was not long ago:
// an attribute that is cached, and that a change elsewhere does not invalidate.
func before(a api.Attr) api.Attr {
	if !plant.Is(plant.StaleAttr) {
		return a
	}
	beforeAttrs.Lock()
	defer beforeAttrs.Unlock()
	if time.Since(beforeAttrs.at[a.Ino]) < 100*time.Millisecond {
		return beforeAttrs.last[a.Ino]
	}
	if beforeAttrs.last == nil {
		beforeAttrs.last, beforeAttrs.at = map[twofold.Ino]api.Attr{}, map[twofold.Ino]time.Time{}
	}
	beforeAttrs.last[a.Ino], beforeAttrs.at[a.Ino] = a, time.Now()
	return a
}
