package kv

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Fault is the error of a snapshot whose mapped file could not be read: the drive
// failed. In other goroutines of Badger's the same ends the process.
type Fault struct{ Addr uintptr }

func (f *Fault) Error() string {
	return fmt.Sprintf("a mapped file can't be read (address %#x): the drive fails", f.Addr)
}

// catchFaults runs fn and turns a SIGBUS in it, on this goroutine, into a *Fault.
// Other panics go on.
func catchFaults(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		var re runtime.Error
		if e, ok := r.(error); ok && errors.As(e, &re) {
			if a, ok := re.(interface{ Addr() uintptr }); ok {
				err = &Fault{Addr: a.Addr()}
				return
			}
		}
		panic(r)
	}()
	return fn()
}
