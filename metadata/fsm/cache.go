package fsm

// cache keeps values that commands read or wrote lately, so that the directories,
// sessions, buckets and counters which every command needs are not read from the
// store each time. It is exact: the machine is the only writer, and drops the cache
// when a write fails. Snapshots do not use it: it may be ahead of them.
//
// Two generations: when the young one is full it becomes the old one, and what is
// used moves to the young one again. Not safe for concurrent use.
type cache struct {
	young, old map[string][]byte // nil value: the key is known to be absent
	bytes      int               // in young
	limit      int               // bytes of a generation
}

const (
	maxCachedValue = 2 << 10
	cacheOverhead  = 64 // bytes of bookkeeping per value, about
)

func newCache(limit int) *cache { return &cache{young: map[string][]byte{}, limit: limit} }

// cacheable tells whether a value is likely to be read again soon by a command.
func cacheable(key string, value []byte) bool {
	switch key[0] {
	case pKept, pExtent, pClaim, pTrash, pPart, pUploadKey, pNonce:
		return false
	}
	return len(value) <= maxCachedValue
}

func (c *cache) get(key string) ([]byte, bool) {
	if v, ok := c.young[key]; ok {
		return v, true
	}
	v, ok := c.old[key]
	if ok {
		c.put(key, v)
	}
	return v, ok
}

func (c *cache) put(key string, value []byte) {
	if !cacheable(key, value) {
		c.drop(key)
		return
	}
	if prev, ok := c.young[key]; ok {
		c.bytes -= len(key) + len(prev) + cacheOverhead
	}
	c.young[key] = value
	if c.bytes += len(key) + len(value) + cacheOverhead; c.bytes > c.limit {
		c.old, c.young, c.bytes = c.young, make(map[string][]byte, len(c.young)), 0
	}
}

// update changes a value, if it is kept.
func (c *cache) update(key, value []byte) {
	if _, ok := c.young[string(key)]; !ok {
		if _, ok = c.old[string(key)]; !ok {
			return
		}
	}
	c.put(string(key), value)
}

func (c *cache) drop(key string) {
	if prev, ok := c.young[key]; ok {
		c.bytes -= len(key) + len(prev) + cacheOverhead
		delete(c.young, key)
	}
	delete(c.old, key)
}

func (c *cache) clear() { c.young, c.old, c.bytes = map[string][]byte{}, nil, 0 }
