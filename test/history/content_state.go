package history

import (
	"errors"
	"slices"
)

// maxMaybe bounds how many contents an inode may have after losses. Beyond, an order is
// not followed further (History.check): it was met once in 2,000 rounds.
const maxMaybe = 256

// union is a sorted set of both.
func union(a, b []content) []content {
	if len(b) == 0 {
		return a
	}
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

func each(cs []content, f func(content) content) []content {
	out := make([]content, len(cs))
	for i, c := range cs {
		out[i] = f(c)
	}
	if len(out) > 1 {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out
}

func filter(cs []content, ok func(content) bool) (out []content) {
	if len(cs) == 1 { // nearly always
		if ok(cs[0]) {
			return cs
		}
		return nil
	}
	for _, c := range cs {
		if ok(c) {
			out = append(out, c)
		}
	}
	return out
}

// mayLose reports whether a mount may lose what it holds, while it lives.
func (t *tree) mayLose(view int) bool { return view >= 0 && t.lossy&(1<<view) != 0 }

// settle is what every look from elsewhere does first: the holder writes what it has.
// Whatever it was until now, it stays.
func (t *tree) settle(id uint64, view int) {
	n := t.node(id)
	if n.holder == none || n.holder == view {
		return
	}
	e := t.edit(id)
	if t.mayLose(n.holder) && len(n.olds) > 0 {
		e.now, e.etag = union(n.now, n.olds), ""
	}
	e.olds, e.holder = nil, none
}

// observe is a look at an inode's content, or at a part of it: it reports whether ok
// can be true of it, and keeps what it can be true of.
func (t *tree) observe(id uint64, view int, ok func(content) bool) bool {
	t.settle(id, view)
	n := t.node(id)
	if keep := filter(n.now, ok); len(keep) > 0 {
		if len(keep) < len(n.now) {
			t.edit(id).now = keep
		}
		return true
	}
	// The mount's own view, which may be of the loss already.
	if n.holder == view && t.mayLose(view) {
		if keep := filter(n.olds, ok); len(keep) > 0 {
			e := t.edit(id)
			e.now, e.olds, e.holder, e.etag = keep, nil, none, ""
			return true
		}
	}
	return false
}

// change is a write: by a mount it stays unwritten for a while, if held is true.
func (t *tree) change(id uint64, view int, held bool, f func(content) content) {
	t.settle(id, view)
	e := t.edit(id)
	was := e.now
	if view != S3View && t.losses && held {
		e.olds = union(e.olds, was)
		if t.mayLose(view) { // later writes may be there without earlier ones
			e.olds = union(e.olds, each(e.olds, f))
		}
		e.holder = view
	} else if len(e.olds) > 0 {
		if t.mayLose(view) {
			was = union(was, e.olds)
		}
		e.olds, e.holder = nil, none
	}
	e.now = each(was, f)
	e.etag = ""
	if len(e.now) > maxMaybe || len(e.olds) > maxMaybe {
		panic(errTooMany)
	}
}

// errTooMany is what a step panics with that can't be followed.
var errTooMany = errors.New("too many possible contents of one inode")

// synced is fsync(2) that succeeded.
func (t *tree) synced(id uint64, view int) {
	n := t.node(id)
	if n.holder != view || t.mayLose(view) {
		// A mount that may lose tells each open file of it once: not this one, perhaps.
		return
	}
	e := t.edit(id)
	e.olds, e.holder = nil, none
}

// died is a mount's end: each inode keeps some prefix of what was written there.
func (t *tree) died(view int) {
	for _, n := range t.nodes {
		if n.holder != view || view == none {
			continue
		}
		e := t.edit(n.id)
		e.now, e.olds, e.holder, e.etag = union(n.now, n.olds), nil, none, ""
	}
}
