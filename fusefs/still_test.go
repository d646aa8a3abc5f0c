package fusefs

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"twofold"
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
