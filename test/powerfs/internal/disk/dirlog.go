package disk

import "sync/atomic"

// slot is a place for a name.
type slot struct {
	dir  *Inode
	name string
}

// change puts another inode, or none, into a slot.
type change struct {
	slot
	from, to *Inode // nil: no entry
}

// dirOp is a directory operation that is not durable: changes that become durable
// together or not at all. It can't survive a power cut without its deps:
//
//   - the operation before it on each of its slots,
//   - when it removes a directory, the operations in that directory (or a file
//     that had been renamed out of it would go too),
//   - when it moves a directory to another parent, the last such move (or two
//     directories could end up in each other).
//
// An entry made in a directory that is itself forgotten needs no rule: it can't be
// reached and goes with it.
type dirOp struct {
	seq     uint64
	changes []change
	deps    []*dirOp
	done    bool // durable now
}

// dirLog holds the operations that are not durable. Guarded by Disk.mu.
type dirLog struct {
	seq      atomic.Uint64 // the last place in the journal; not guarded
	durable  uint64        // Ordered: the journal is durable up to here
	ops      []*dirOp      // in order; those that are done are dropped now and then
	done     int           // how many of ops are done
	slots    map[slot]*dirOp
	lastMove *dirOp
}

// live returns the pending operations in order.
func (l *dirLog) live() []*dirOp {
	l.ops = undone(l.ops)
	l.done = 0
	return l.ops
}

// undone filters in place.
func undone(ops []*dirOp) []*dirOp {
	kept := ops[:0]
	for _, o := range ops {
		if !o.done {
			kept = append(kept, o)
		}
	}
	clear(ops[len(kept):])
	return kept
}

// pushed appends, and drops what is done before the slice would grow.
func pushed(ops []*dirOp, o *dirOp) []*dirOp {
	if len(ops) == cap(ops) {
		ops = undone(ops)
	}
	return append(ops, o)
}

// do carries out an operation on the live names and logs it. moved says that it
// takes a directory to another parent. The caller holds mu.
func (d *Disk) do(moved bool, changes ...change) {
	l := &d.log
	o := &dirOp{seq: l.seq.Add(1), changes: changes}
	for _, c := range changes {
		if before := l.slots[c.slot]; before != nil {
			o.deps = append(o.deps, before)
		}
		l.slots[c.slot] = o
		if c.from != nil && c.from.IsDir() && !named(changes, c.from) {
			c.from.pending = undone(c.from.pending)
			o.deps = append(o.deps, c.from.pending...)
		}
		c.dir.pending = pushed(c.dir.pending, o)
		if c.to != nil && d.opts.EntryWithFsync {
			c.to.naming = pushed(c.to.naming, o)
		}
		for _, i := range []*Inode{c.dir, c.from, c.to} {
			if i != nil {
				i.pins++
			}
		}
	}
	if moved {
		if l.lastMove != nil && !l.lastMove.done {
			o.deps = append(o.deps, l.lastMove)
		}
		l.lastMove = o
	}
	l.ops = append(l.ops, o)
	for _, c := range changes {
		c.takeOut()
	}
	for _, c := range changes {
		c.putIn()
	}
}

// named reports whether the changes leave i with a name.
func named(changes []change, i *Inode) bool {
	for _, c := range changes {
		if c.to == i {
			return true
		}
	}
	return false
}

// takeOut is the first half of a change of the live names; all halves of an
// operation come before any second half, for an exchange.
func (c change) takeOut() {
	if c.from == nil {
		return
	}
	delete(c.dir.live, c.name)
	delete(c.from.links, c.slot)
	if c.from.IsDir() {
		c.dir.subdirs--
	}
}

func (c change) putIn() {
	if c.to == nil {
		return
	}
	c.dir.live[c.name] = c.to
	c.to.links[c.slot] = struct{}{}
	if c.to.IsDir() {
		c.to.parent = c.dir
		c.dir.subdirs++
	}
}

// commit makes the whole journal durable, as Ordered demands. The caller holds mu.
func (d *Disk) commit() {
	d.log.durable = d.log.seq.Load()
	d.makeDurable(d.log.live())
}

// makeDurable makes operations durable with all they depend on. The caller holds
// mu. ops may be the log's own slice.
func (d *Disk) makeDurable(ops []*dirOp) {
	// Applying marks operations as done but leaves the slice as it is.
	for _, o := range ops {
		d.apply(o)
	}
	if d.log.done > 64 && d.log.done > len(d.log.ops)/2 {
		d.log.live()
	}
}

// apply makes one operation durable, after those it depends on.
func (d *Disk) apply(o *dirOp) {
	// A stack of our own: chains on one name can be long.
	stack := []*dirOp{o}
	for len(stack) > 0 {
		top := stack[len(stack)-1]
		if top.done {
			stack = stack[:len(stack)-1]
			continue
		}
		n := len(stack)
		for _, dep := range top.deps {
			if !dep.done {
				stack = append(stack, dep)
			}
		}
		if len(stack) > n {
			continue
		}
		stack = stack[:n-1]
		d.applyOne(top)
	}
}

func (d *Disk) applyOne(o *dirOp) {
	o.done, o.deps = true, nil
	d.log.done++
	for _, c := range o.changes {
		if d.log.slots[c.slot] == o {
			delete(d.log.slots, c.slot)
		}
		c.setDurable()
	}
	if d.log.lastMove == o {
		d.log.lastMove = nil
	}
	for _, c := range o.changes {
		for _, i := range []*Inode{c.dir, c.from, c.to} {
			if i != nil {
				i.pins--
				d.collect(i)
			}
		}
	}
	o.changes = nil
}

// setDurable applies a change to the durable names.
func (c change) setDurable() {
	if was := c.dir.durable[c.name]; was != nil {
		was.durableLinks--
		delete(c.dir.durable, c.name)
	}
	if c.to != nil {
		c.dir.durable[c.name] = c.to
		c.to.durableLinks++
	}
}

// SyncDir makes every operation in the directory durable.
func (i *Inode) SyncDir() {
	i.disk.mu.Lock()
	defer i.disk.mu.Unlock()
	if i.disk.opts.Ordered {
		i.disk.commit()
		return
	}
	i.disk.makeDurable(i.takePending())
	i.disk.settleNames(i)
}

func (i *Inode) takePending() []*dirOp {
	ops := undone(i.pending)
	i.pending = nil
	return ops
}

// settleNames makes durable, with EntryWithFsync, the operations that gave i its
// names, and its parent directories theirs. The caller holds mu.
func (d *Disk) settleNames(i *Inode) {
	if !d.opts.EntryWithFsync {
		return
	}
	if d.opts.Ordered {
		d.commit()
		return
	}
	for i != nil {
		ops := undone(i.naming)
		i.naming = nil
		var up *Inode
		for s := range i.links {
			up = s.dir
		}
		d.makeDurable(ops)
		i = up
	}
}
