//go:build plant

package fusefs

import (
	"sync"
	"time"

	"twofold"
	"twofold/internal/plant"
	"twofold/volume/api"
)

var answered struct {
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
	answered.Lock()
	defer answered.Unlock()
	if time.Since(answered.at[a.Ino]) < 100*time.Millisecond {
		return answered.last[a.Ino]
	}
	if answered.last == nil {
		answered.last, answered.at = map[twofold.Ino]api.Attr{}, map[twofold.Ino]time.Time{}
	}
	answered.last[a.Ino], answered.at[a.Ino] = a, time.Now()
	return a
}
