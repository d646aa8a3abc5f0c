package kv

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"unsafe"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sys/unix"

	"twofold/internal/errs"
)

// Badger truncates a table's file before it removes it, which empties every hard
// link to it (ristretto's MmapFile.Delete). So while a checkpoint shares tables with
// the live directory, none of them may be deleted by Badger: the checkpoint holds a
// reference to each, as an iterator would. An iterator itself won't do: it holds
// memtables as well, and its own snapshot.
//
// The references are counted by Badger's own exported methods; the tables are found
// through unexported fields. TestPins and every Open check that they are where they
// were in the version this was written for.

// pins holds references to tables, by id.
type pins map[uint64]*table.Table

// pinTables takes a reference to every table of the tree.
func pinTables(db *badger.DB) (p pins, err error) {
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, errs.Newf("kv.pinTables", errs.Other, "this version of Badger is not laid out as expected: %v", r)
		}
	}()
	p = pins{}
	levels := reflect.ValueOf(db).Elem().FieldByName("lc").Elem().FieldByName("levels")
	for i := range levels.Len() {
		level := levels.Index(i).Elem()
		lock := field[sync.RWMutex](level, "RWMutex")
		tables := field[[]*table.Table](level, "tables")
		lock.RLock() // while a table is in the level, the level has a reference
		for _, t := range *tables {
			if _, ok := p[t.ID()]; !ok {
				t.IncrRef()
				p[t.ID()] = t
			}
		}
		lock.RUnlock()
	}
	return p, nil
}

// field points to a field of an addressable struct. It panics where the field is
// not there or of another type.
func field[T any](v reflect.Value, name string) *T {
	f := v.FieldByName(name)
	if f.Type() != reflect.TypeFor[T]() {
		panic(name + " is of type " + f.Type().String())
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr()))
}

// release gives the references back: Badger deletes what it has replaced meanwhile.
func (p pins) release(log *slog.Logger) {
	var err error
	for _, t := range p {
		err = errors.Join(err, t.DecrRef())
	}
	if err != nil {
		log.Warn("deleting tables", "err", err)
	}
}

// gate keeps compactions from deleting tables between the moment Badger opens and
// the moment its tables are pinned. It is a logger: Badger says this after it wrote
// a compaction's tables and before it touches the ones they replace (TestGate).
type gate struct {
	badgerLog
	open chan struct{} // closed when compactions may go on
}

const gateMessage = "Discard stats"

// Debugf implements badger.Logger.
func (g gate) Debugf(format string, _ ...any) {
	if strings.HasPrefix(format, gateMessage) {
		<-g.open
	}
}

// Trim takes the tables' mapped pages out of the process's memory. They stay in the
// kernel's cache, which it may shrink as it likes, and are mapped again when read.
// Without it every page that a compaction wrote or a scan read would count as
// resident as long as its table lives.
func (b *Badger) Trim() {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.gone.Load() {
		return
	}
	p, err := pinTables(b.db) // while a table is held, its file stays mapped
	if err != nil {
		return
	}
	for _, t := range p {
		if len(t.Data) > 0 {
			_ = unix.Madvise(t.Data, unix.MADV_DONTNEED) // a shared map: nothing is lost
		}
	}
	p.release(b.log)
}
