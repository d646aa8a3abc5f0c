package s3

import (
	"bytes"
	"crypto/md5"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestMD5Lanes: sums in lanes are MD5, whatever the writes' sizes are, also where a
// body before was given up half-way.
func TestMD5Lanes(t *testing.T) {
	m := &md5Hashes{cores: 1}
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	var wg, begun sync.WaitGroup
	begun.Add(24)
	for w := range 24 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for round := range 8 {
				b := &body{size: lanesFrom, hashes: newHashes()}
				b.startMD5(m)
				if round == 0 { // so many are under way that lanes are used
					begun.Done()
					begun.Wait()
				}
				p := content[:r.IntN(len(content))]
				for rest := p; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(100_000))
					b.sum5.Write(rest[:n])
					rest = rest[n:]
				}
				if r.IntN(3) > 0 {
					want := md5.Sum(p)
					if got := b.sum5.Sum(nil); !bytes.Equal(got, want[:]) {
						t.Errorf("%d bytes: %x, want %x", len(p), got, want)
					}
				}
				b.endMD5()
			}
		})
	}
	wg.Wait()
	if len(m.groups) != 1 || m.active != 0 {
		t.Errorf("%d groups, %d active", len(m.groups), m.active)
	}
	m.close()
	if len(m.groups) != 0 {
		t.Errorf("%d groups after close", len(m.groups))
	}
}

// TestMD5ChoosesByLoad: few bodies use the standard library, many use lanes, and
// those beyond all lanes the standard library again.
func TestMD5ChoosesByLoad(t *testing.T) {
	m := &md5Hashes{cores: 2}
	var lanes []*laneHasher
	for i := range 50 {
		h := m.begin()
		if want := i+1 >= lanesWorth && i+1 < lanesWorth+2*lanesOf; (h != nil) != want {
			t.Fatalf("body %d: in a lane: %v", i+1, h != nil)
		}
		lanes = append(lanes, h)
	}
	m.close()
	if len(m.groups) != 2 {
		t.Fatalf("close took lanes away that are in use")
	}
	for _, h := range lanes {
		m.end(h)
	}
	if len(m.groups) != 0 || m.begin() != nil {
		t.Errorf("lanes after close")
	}
}
