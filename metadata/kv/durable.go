package kv

import "sync"

// durableSet names the tables and sealed value files that were fsynced once. They
// never change and their names are never used again, so that a later checkpoint need
// not fsync them again.
type durableSet struct {
	mu    sync.Mutex
	names map[string]bool // guarded by mu
}

func (d *durableSet) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[name]
}

// set replaces the set by those in l, the list of a checkpoint.
func (d *durableSet) set(l fileList) {
	names := make(map[string]bool, len(l.Files))
	for f := range l.Files {
		if immutable(f) {
			names[f] = true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = names
}
