package kv

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"twofold/internal/errs"
)

// When value files are rewritten. With S the bytes of sealed files in which anything
// is alive, and L the live ones among them: more than 2 L + one file's length, the
// one of which least is alive; or more than fewFiles files over what their length
// asks for, the one with the fewest live bytes (checkpoints seal files early). So a
// byte that is moved for space frees at least one, and all files together have at
// most twice the live bytes and two files' length, when the cleaner is done; not
// counting those that open snapshots hold, nor the names in the latest checkpoint.
const (
	fewFiles  = 16
	cleanStep = 256 << 10 // bytes of a file that are looked at, and moved, under one lock
	// deadPoll is how long snapshots may go on unasked whether they still need a file.
	deadPoll = time.Second
	// cleanPause is how long the cleaner rests after the drive took no more.
	cleanPause = time.Minute
)

// due tells whether there is work for the cleaner. Badger.mu is held.
func (v *values) due() bool { return len(v.dead) > 0 || v.victim() != nil }

// victim is the file to be rewritten, if one is to be. Badger.mu is held.
func (v *values) victim() (f *valueFile) {
	s := v.sealed
	sparse := s.size > 2*s.live+v.limit
	if !sparse && s.files <= fewFiles+int(2*s.size/v.limit) {
		return nil
	}
	for _, g := range v.files {
		switch {
		case !g.sealed || g.bad || g.live == 0:
		case f == nil,
			sparse && float64(g.live)*float64(f.size) < float64(f.live)*float64(g.size),
			!sparse && g.live < f.live:
			f = g
		}
	}
	return f
}

func (v *values) wake() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// cleaner is the goroutine that gives space back.
type cleaner struct {
	once sync.Once
	stop chan struct{} // closed: end
	done chan struct{} // closed: it has ended
}

func (b *Badger) startCleaner() {
	c := &cleaner{stop: make(chan struct{}), done: make(chan struct{})}
	b.cleaner = c
	b.values.wake() // for what was left at the last stop
	go func() {
		defer close(c.done)
		b.clean(c.stop)
	}()
}

// end stops the cleaner before its next step. Safe on nil.
func (c *cleaner) end() {
	if c != nil {
		c.once.Do(func() { close(c.stop) })
	}
}

// wait waits until it has ended. Safe on nil.
func (c *cleaner) wait() {
	if c != nil {
		<-c.done
	}
}

// clean removes and rewrites value files as they become due, until stop.
func (b *Badger) clean(stop <-chan struct{}) {
	for {
		var again <-chan time.Time // nil: when something is due
		switch more, err := b.cleanOnce(stop); {
		case errors.Is(err, errStopped):
			return
		case err != nil:
			b.log.Error("value files can't be rewritten for now", "dir", b.dir, "err", err)
			again = time.After(cleanPause)
		case more:
			again = time.After(deadPoll)
		}
		select {
		case <-stop:
			return
		case <-again:
		case <-b.values.kick:
			if again == nil {
				continue
			}
			select { // not at every write
			case <-stop:
				return
			case <-again:
			}
		}
	}
}

var errStopped = errors.New("the store is closed or failed")

// cleanOnce does what is due. waiting: there are files that snapshots may need.
func (b *Badger) cleanOnce(stop <-chan struct{}) (waiting bool, err error) {
	for {
		if waiting, err = b.removeDead(); err != nil {
			return waiting, err
		}
		b.mu.Lock()
		f := b.values.victim()
		b.mu.Unlock()
		if f == nil {
			return waiting, nil
		}
		if err := b.rewrite(f, stop); err != nil {
			return waiting, err
		}
	}
}

// removeDead removes the files that no snapshot can read any more, and reports
// whether there are others.
func (b *Badger) removeDead() (more bool, err error) {
	v := b.values
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false, errStopped
	}
	var free, held []*valueFile
	oldest := b.reads.oldest()
	for _, f := range v.dead {
		if f.death > oldest {
			held = append(held, f)
			continue
		}
		free = append(free, f)
		v.mu.Lock()
		delete(v.files, f.id)
		v.mu.Unlock()
	}
	v.dead = held
	b.mu.Unlock()
	for _, f := range free { // nobody has or gets a pointer into it
		if err := errors.Join(f.f.Close(), v.fs.Remove(v.path(f))); err != nil {
			v.log.Warn("a value file that nothing needs stays", "dir", v.dir, "file", valueName(f.id), "err", err)
		}
	}
	return len(held) > 0, nil
}

// rewrite moves what is alive in a sealed file to the current one, step by step.
// Nothing is alive in it afterwards.
func (b *Badger) rewrite(f *valueFile, stop <-chan struct{}) error {
	for off := int64(fileHeadLen); off < f.size; {
		began := time.Now()
		ops, ptrs, next, err := f.walk(off)
		if err != nil { // what in it is alive can't be told: it stays as it is
			b.mu.Lock()
			b.values.spare(f)
			b.mu.Unlock()
			b.log.Error("a value file is damaged", "dir", b.dir, "err", errs.E("kv.rewrite", errs.Corrupt, &Damage{valueName(f.id), next, err}))
			return nil
		}
		if err := b.move(ops, ptrs); err != nil {
			return err
		}
		off = next
		select {
		case <-stop:
			return errStopped
		case <-time.After(time.Since(began)): // half of the time is the others'
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values.kill(f, f.live, b.reads.version()) // none is, whatever was counted
	return nil
}

// walk reads the records from off on, about cleanStep bytes and at least one, and
// returns them as changes that would write them again, with where they lie now. next
// is where it got to.
func (f *valueFile) walk(off int64) (ops []Op, ptrs []pointer, next int64, err error) {
	b := make([]byte, min(cleanStep, f.size-off))
	if _, err := f.f.ReadAt(b, off); err != nil {
		return nil, nil, off, err
	}
	for next = off; next < f.size; {
		rest := b[next-off:]
		if len(rest) < recordHeadLen && len(ops) > 0 {
			return ops, ptrs, next, nil
		}
		size, err := recordSize(rest)
		if err != nil {
			return nil, nil, next, err
		}
		if size > int64(len(rest)) {
			if len(ops) > 0 {
				return ops, ptrs, next, nil
			}
			rest = make([]byte, size) // one that is longer than a step
			if _, err := f.f.ReadAt(rest, next); err != nil {
				return nil, nil, next, err
			}
		}
		key, value, p, err := decodeRecord(rest[:size], f.id, next)
		if err != nil {
			return nil, nil, next, err
		}
		ops, ptrs = append(ops, Op{key, value}), append(ptrs, p)
		if next += size; next-off >= int64(len(b)) {
			break
		}
	}
	return ops, ptrs, next, nil
}

// move writes those of ops again that the tree points to by their ptrs: a batch of
// its own, that changes no value.
func (b *Badger) move(ops []Op, ptrs []pointer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.failed != nil {
		return errStopped
	}
	var live []Op
	var gone []goneValue
	err := catchFaults(func() error {
		txn := b.db.NewTransactionAt(b.reads.version(), false)
		defer txn.Discard()
		for i, p := range ptrs {
			q, ok, err := pointerIn(txn, ops[i].Key)
			if err != nil {
				return err
			}
			if ok && q == p {
				live = append(live, ops[i])
				gone = append(gone, goneValue{p.file, p.record(ops[i].Key)})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for live values: %w", err)
	}
	if len(live) == 0 {
		return nil
	}
	to, err := b.values.append(live)
	if err != nil {
		return err // nothing points there: the store is as it was
	}
	return b.commit(live, valueBatch{to, gone})
}
