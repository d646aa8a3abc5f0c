package api

import (
	"context"
	"sync"
)

// Dirs are the attributes that directories have behind a change of their entries (Create,
// Unlink, Rmdir, Rename), for a caller that wants to go on caching them. Whoever serves the
// change adds those that the session may cache (Attr.Leased); there may be none. Safe
// for concurrent use.
type Dirs struct {
	mu    sync.Mutex
	attrs []Attr
}

type dirsKey struct{}

// WithDirs returns a context whose call tells what becomes of directories.
func WithDirs(ctx context.Context) (context.Context, *Dirs) {
	d := new(Dirs)
	return context.WithValue(ctx, dirsKey{}, d), d
}

// DirsOf returns where a call is to tell it; nil: nobody wants to know.
func DirsOf(ctx context.Context) *Dirs {
	d, _ := ctx.Value(dirsKey{}).(*Dirs)
	return d
}

// Add adds attributes, unless d is nil.
func (d *Dirs) Add(as ...Attr) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attrs = append(d.attrs, as...)
}

// Attrs returns what was added.
func (d *Dirs) Attrs() []Attr {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attrs
}
