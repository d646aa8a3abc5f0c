package fusefs

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// TestAttributesOfOneMoment: while the volume is asked for attributes somebody else changes
// the mode, and then bytes are written here. The mode of before and the size of after were
// never there together. Also where bytes are written each time that it is asked.
func TestAttributesOfOneMoment(t *testing.T) {
	for _, always := range []bool{false, true} {
		v := newFakeVolume()
		m, other := mountFake(t, v, nil), v.session()
		f, err := os.Create(m.path("f"))
		must(t, err)
		defer f.Close()
		_, err = f.WriteString("a")
		must(t, err)
		ino := somebody{other}.find(t, "f").Ino
		_, err = f.WriteString("b") // the lease is here again
		must(t, err)
		setMode(t, other, ino, 0640) // what this mount had cached is gone

		var asked atomic.Int32
		var writers sync.WaitGroup
		m.setHook(func(op string, of twofold.Ino) error {
			if op != "gotattr" || of != ino {
				return nil
			}
			n := asked.Add(1)
			if n > 1 && !always || n > stillAfter+1 {
				return nil
			}
			if n <= stillAfter {
				setMode(t, other, ino, 0600)
			}
			writers.Go(func() {
				if _, err := f.WriteString("c"); err != nil {
					t.Error(err)
				}
			})
			if n <= stillAfter { // a later one is held up for the answer
				writers.Wait()
			}
			return nil
		})
		st, err := f.Stat()
		must(t, err)
		m.setHook(nil)
		writers.Wait()
		if st.Mode().Perm() != 0600 && st.Size() > 2 {
			t.Errorf("always %v: mode %o with %d bytes: they were written when the mode had changed", always, st.Mode().Perm(), st.Size())
		}
		if always && asked.Load() != stillAfter+1 {
			t.Errorf("the volume was asked %d times, want %d", asked.Load(), stillAfter+1)
		}
	}
}

func setMode(t *testing.T, s *fakeSession, ino twofold.Ino, mode uint32) {
	t.Helper()
	if _, err := s.SetAttr(t.Context(), ino, api.SetAttr{Mode: &mode}); err != nil {
		t.Error(err)
	}
}

// TestTruncateOfOneMoment: while a truncate is on its way to the volume, behind bytes that
// are flushed first, nobody is shown a size that the file has not had, or has no more.
func TestTruncateOfOneMoment(t *testing.T) {
	v := newFakeVolume()
	m := mountFake(t, v, nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("123456")
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt([]byte("x"), 0) // dirty, and stays so: a flush before the truncate
	must(t, err)

	sent, answer := make(chan struct{}), make(chan struct{})
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "SetAttr" {
			close(sent)
			<-answer
			return fail(errs.Other)
		}
		return nil
	})
	truncated := make(chan error, 1)
	go func() { truncated <- f.Truncate(4) }()
	<-sent
	sizes := make(chan int64, 1)
	go func() {
		st, err := os.Stat(m.path("f"))
		if err != nil {
			t.Error(err)
			sizes <- -1
			return
		}
		sizes <- st.Size()
	}()
	select {
	case size := <-sizes:
		t.Errorf("a file of %d bytes is shown, and the truncate may fail", size)
	case <-time.After(100 * time.Millisecond): // it waits
	}
	close(answer)
	if err := <-truncated; err == nil {
		t.Error("the truncate has not failed")
	}
	if size := <-sizes; size != 6 {
		t.Errorf("%d bytes when the truncate had failed", size)
	}
}
