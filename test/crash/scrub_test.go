package crash

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	"twofold/test/harness"
)

// TestScrub flips a byte in every kind of place of every shard, data and parity. A
// scrub finds and repairs all of them without a read; reads are right before that,
// and repair what they meet.
func TestScrub(t *testing.T) {
	r := start(t, harness.WithFlags("--scrub-cycle", "1s"))
	kinds := []string{"header", "header's end", "hash of a block", "block", "last block", "trailer", "footer"}
	n := len(kinds) * len(r.srv.Drives)
	values := map[string]content{}
	for i := range n {
		key, c := fmt.Sprintf("scrub/o%02d", i), content{}.join(run{r.tags.Add(1), int64(20<<10 + i*1111)})
		if i%7 == 0 {
			c = content{}.join(run{r.tags.Add(1), 2<<20 + int64(i)})
		}
		if err := r.put(key, c.bytes()); err != nil {
			t.Fatal(err)
		}
		values[key] = c
	}
	blobs := r.shardFiles()
	if len(blobs) != n {
		t.Fatalf("%d blobs, %d objects", len(blobs), n)
	}
	flipAll := func() map[string][]byte {
		before := map[string][]byte{}
		for i, files := range blobs {
			kind, shard := kinds[i%len(kinds)], files[i/len(kinds)]
			before[shard] = flip(t, shard, kind)
		}
		return before
	}

	// While the server is stopped; the scrub begins when it starts.
	if !r.run.stop(opTimeout) {
		t.Fatal("it does not stop")
	}
	before := flipAll()
	r.run.start()
	r.await()
	awaitRepair(t, before, "by the scrub")
	for key, c := range values {
		r.mustBe(key, c)
	}

	// While it runs, between two scrubs (a minute): reads are right. Then a scrub
	// finds what the reads have not met.
	before = flipAll()
	for key, c := range values {
		r.mustBe(key, c)
	}
	r.kill(server, 0)
	awaitRepair(t, before, "by reads and a scrub")
}

// shardFiles lists the shard files, by blob.
func (r *rig) shardFiles() (out [][]string) {
	byName := map[string][]string{}
	for _, d := range r.srv.Drives {
		filepath.WalkDir(filepath.Join(d, "blobs"), func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				byName[e.Name()] = append(byName[e.Name()], p)
			}
			return nil
		})
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		out = append(out, byName[n])
	}
	return out
}

// flip flips the bits of one byte of a shard file and returns what was there.
func flip(t *testing.T, file, kind string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{
		"header": 10, "header's end": 90, "hash of a block": 100, "block": 96 + 16 + 500,
		"last block": len(b) - 200, "trailer": len(b) - 50, "footer": len(b) - 10,
	}[kind]
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{^b[at]}, int64(at)); err != nil {
		t.Fatal(err)
	}
	return b
}

// awaitRepair waits until all files are again what they were.
func awaitRepair(t *testing.T, before map[string][]byte, how string) {
	t.Helper()
	var bad []string
	began := time.Now()
	for end := began.Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		bad = nil
		for file, want := range before {
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
				bad = append(bad, file)
			}
		}
		if len(bad) == 0 {
			fmt.Fprintf(os.Stderr, "%d flipped bytes repaired %s in %v\n", len(before), how, time.Since(began).Round(time.Millisecond))
			return
		}
	}
	t.Fatalf("%d of %d shards are not repaired %s: %v", len(bad), len(before), how, bad)
}

// mustBe checks one object by both views.
func (r *rig) mustBe(key string, c content) {
	r.t.Helper()
	b, _, absent, err := r.get(key)
	if err != nil || absent || !c.is(b) {
		r.violation("GET %s: absent=%v, %v, %s", key, absent, err, c.explain(b))
	}
	b, err = os.ReadFile(r.path(key))
	if err != nil || !c.is(b) {
		r.violation("reading %s: %v, %s", key, err, c.explain(b))
	}
}
