package crash

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"twofold/test/powerfs"
)

// TestContent holds the runs of a content against plain bytes.
func TestContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c content
		var plain []byte
		for tag := uint64(1); tag < 20; tag++ {
			off := rapid.Int64Range(0, int64(len(plain))+300).Draw(t, "off")
			if rapid.IntRange(0, 3).Draw(t, "op") == 0 {
				c, plain = c.truncate(off), append(plain, make([]byte, 300)...)[:off]
				continue
			}
			n := rapid.Int64Range(1, 500).Draw(t, "n")
			c = c.write(off, n, tag)
			plain = append(plain, make([]byte, max(0, off+n-int64(len(plain))))...)
			fill(plain[off:off+n], off, tag)
		}
		if !bytes.Equal(c.bytes(), plain) || !c.is(plain) {
			t.Fatalf("%v is not what was written", c)
		}
		if len(plain) > 0 {
			plain[rapid.IntRange(0, len(plain)-1).Draw(t, "flipped")] ^= 1
			if c.is(plain) {
				t.Fatal("a flipped bit is not seen")
			}
		}
	})
}

// TestDecode: bytes say by which writes they came.
func TestDecode(t *testing.T) {
	c := content{}.write(0, 640, 7).write(640, 640, 8)
	if got := decode(c.bytes()); !got.equal(c) {
		t.Fatalf("%v", got)
	}
	b := c.bytes()
	copy(b[128:], b[0:64]) // a line of another place
	if got := decode(b); got.equal(c) || !strings.Contains(got.String(), "×#18446744073709551615]") {
		t.Fatalf("%v", got)
	}
}

// TestStraddled: what a mount showed to a reader who came before the kill is not what
// the next one has to show.
func TestStraddled(t *testing.T) {
	const killed = 1 // after the read began
	w := newWorld()
	id := w.create("f", content{}.write(0, 1000, 1))
	w.write(id, 500, 100, 2, 0)
	full, synced := w.inodes[id].now, content{}.write(0, 1000, 1)
	show := func(c content) *tree {
		return &tree{view: viewMount, files: map[string][]byte{"f": c.bytes()}}
	}
	if why := w.match(show(full), killed-1, killed, false); why != "" {
		t.Fatal(why)
	}
	if !w.unsure(id, killed) {
		t.Fatal("the dead mount's answer counts as the next one's")
	}
	if why := w.match(show(synced), killed, killed, false); why != "" {
		t.Fatal(why)
	}
	if w.unsure(id, killed) || w.match(show(full), killed, killed, false) == "" {
		t.Fatal("what the next mount showed does not stay")
	}
}

// TestWorld: what an unsynced write may be after its mount was killed.
func TestWorld(t *testing.T) {
	w := newWorld()
	id := w.create("f", content{}.write(0, 1000, 1))
	w.write(id, 500, 1000, 2, 0)
	w.write(id, 2000, 100, 3, 0)
	states := []content{
		content{}.write(0, 1000, 1),
		content{}.write(0, 1000, 1).write(500, 700, 2), // in part
		content{}.write(0, 1000, 1).write(500, 1000, 2),
		content{}.write(0, 1000, 1).write(500, 1000, 2).write(2000, 100, 3),
	}
	for i, c := range states {
		if _, why := w.find(id, c.bytes(), 1, false); why != "" {
			t.Errorf("state %d is not possible after a kill: %s", i, why)
		}
		if _, why := w.find(id, c.bytes(), 0, false); (why == "") != (i == len(states)-1) {
			t.Errorf("state %d while the mount lives: %q", i, why)
		}
	}
	for i, c := range []content{
		content{}.write(0, 1000, 1).write(2000, 100, 3),                // the second without the first
		content{}.write(0, 1000, 1).write(600, 900, 2),                 // the end without the start
		content{}.write(0, 1000, 1).truncate(900),                      // shorter than any
		content{}.write(0, 1000, 9).write(500, 1000, 2),                // of another
		content{}.write(0, 1000, 1).write(500, 1000, 2).truncate(2000), // with a hole that nobody made
	} {
		if _, why := w.find(id, c.bytes(), 1, false); why == "" {
			t.Errorf("wrong state %d passes", i)
		}
	}
	w.settle(id)
	if _, why := w.find(id, states[2].bytes(), 1, false); why == "" {
		t.Error("what was synced may be lost")
	}
}

// TestRegister: what shared names may show.
func TestRegister(t *testing.T) {
	s := newShared(nil, 1)
	key := s.name(0)
	put := func(tag uint64) *assignment {
		return s.begin(key, &assignment{c: content{}.write(0, 100, tag)})
	}
	check := func(tag uint64, good bool) {
		t.Helper()
		s.mu.Lock()
		saved := s.writes[key]
		s.mu.Unlock()
		why := s.check(key, content{}.write(0, 100, tag).bytes(), false, s.now())
		if (why == "") != good {
			t.Errorf("#%d: %q", tag, why)
		}
		s.mu.Lock()
		s.writes[key] = saved
		s.mu.Unlock()
	}
	a := put(1)
	check(1, true)
	s.end(a, nil)
	check(1, true)
	if s.check(key, nil, true, s.now()) == "" {
		t.Error("an acknowledged write may be gone")
	}
	b := put(2)
	check(1, true)
	check(2, true)
	s.end(b, nil)
	check(1, false)
	put(3) // of unknown outcome
	check(2, true)
	check(3, true)
	check(4, false)
}

// TestOracleSeesLoss cuts the power of drives that all lie about fsync: what was
// acknowledged is lost, and the oracle has to say so.
func TestOracleSeesLoss(t *testing.T) {
	if !*campaign.long {
		t.Skip("part of the campaign")
	}
	r, fs := startPower(t, powerfs.Options{})
	r.lossy = true
	l := newLoad(r, 4, 1, mix{})
	l.during(func() { time.Sleep(2 * time.Second) })
	l.verify()
	fs.Fault(powerfs.Fault{Kind: powerfs.ShortLie, Drive: powerfs.AllDrives})
	l.during(func() {
		time.Sleep(3 * time.Second)
		r.cut(fs, 7)
	})
	l.verify()
	if r.violations.Load() == 0 {
		t.Error("drives lied and lost power, and the oracle has not noticed")
	}
}
