package flock

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// free reports whether a stranger can have the lock.
func free(t *testing.T, path string) bool {
	t.Helper()
	l, err := (*Keeper)(nil).Lock(path)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false
	}
	must[*Lock](t)(l, err).Close()
	return true
}

// TestHandOver: the next process goes on with the locks while the one before still
// has its descriptors, and what it does not ask for stays that one's alone.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "c")
	box := must[*Box](t)(NewBox())
	first := must[*Keeper](t)(NewKeeper(box))
	la := must[*Lock](t)(first.Lock(a))
	lb := must[*Lock](t)(first.Lock(b))
	lc := must[*Lock](t)(first.Lock(c))
	must[struct{}](t)(struct{}{}, first.Settle())
	if err := lc.Close(); err != nil {
		t.Fatal(err)
	}
	if free(t, a) || free(t, b) || !free(t, c) {
		t.Fatal("the first has a and b")
	}

	// The first is killed, and a thread of it hangs: its files stay open.
	second := must[*Keeper](t)(NewKeeper(BoxOf(box.Ends())))
	ta := must[*Lock](t)(second.Lock(a))
	must[struct{}](t)(struct{}{}, second.Settle())
	if _, err := second.Lock(b); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("what was not taken over at the start: %v, and not EWOULDBLOCK while the first has it", err)
	}
	lb.File.Close() // the thread came back
	for end := time.Now().Add(time.Minute); !free(t, b); time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // Settle closes in the background
			t.Fatal("a lock that was given up is held")
		}
	}
	must[*Lock](t)(second.Lock(b)).Close()

	// Closing is giving back, whoever else has descriptors.
	if err := ta.Close(); err != nil {
		t.Fatal(err)
	}
	if !free(t, a) {
		t.Fatal("a lock that was given back is held")
	}
	la.File.Close()
}

// TestBoxOutlivesProcess: nobody has the file open but the box.
func TestBoxOutlivesProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	box := must[*Box](t)(NewBox())
	first := must[*Keeper](t)(NewKeeper(box))
	must[*Lock](t)(first.Lock(path)).File.Close()
	if free(t, path) {
		t.Fatal("the lock ended with the process")
	}
	second := must[*Keeper](t)(NewKeeper(BoxOf(box.Ends())))
	if free(t, path) {
		t.Fatal("the lock ended with the hand-over")
	}
	// It dies before it asked for anything: the next one finds all the same.
	for _, f := range second.left {
		f.Close()
	}
	third := must[*Keeper](t)(NewKeeper(BoxOf(box.Ends())))
	must[*Lock](t)(third.Lock(path)).Close()
	if !free(t, path) {
		t.Fatal("the lock is held by nobody")
	}
}

// TestHandOverOfAnotherFile: a file that took the place of the one that was locked is
// locked itself, and a lock given back just before its owner died is taken again.
func TestHandOverOfAnotherFile(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	box := must[*Box](t)(NewBox())
	first := must[*Keeper](t)(NewKeeper(box))
	must[*Lock](t)(first.Lock(a))
	lb := must[*Lock](t)(first.Lock(b))
	unix.Flock(int(lb.Fd()), unix.LOCK_UN)
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	second := must[*Keeper](t)(NewKeeper(BoxOf(box.Ends())))
	la := must[*Lock](t)(second.Lock(a))
	must[*Lock](t)(second.Lock(b))
	if free(t, a) || free(t, b) {
		t.Fatal("the second has neither")
	}
	if !same(la.File, a) {
		t.Fatal("the lock is of the file that was removed")
	}
}

// TestManyLocks: more than a message can have are locked all the same.
func TestManyLocks(t *testing.T) {
	dir := t.TempDir()
	box := must[*Box](t)(NewBox())
	k := must[*Keeper](t)(NewKeeper(box))
	for i := range maxKept + 2 {
		must[*Lock](t)(k.Lock(filepath.Join(dir, string(rune('a'+i)))))
	}
	must[struct{}](t)(struct{}{}, k.Settle())
	if n := len(must[*Keeper](t)(NewKeeper(BoxOf(box.Ends()))).left); n != maxKept {
		t.Fatalf("%d locks are kept", n)
	}
}
