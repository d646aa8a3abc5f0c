package replica

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
)

// TestStream packs random directories and unpacks them; a stream that is cut short
// or changed anywhere is refused.
func TestStream(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		from, err := os.MkdirTemp(base, "from")
		if err != nil {
			rt.Fatal(err)
		}
		files := rapid.MapOfN(rapid.StringMatching(`[a-zA-Z0-9][a-zA-Z0-9.-]{0,20}`), rapid.SliceOfN(rapid.Byte(), 0, 300), 0, 6).Draw(rt, "files")
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(from, name), data, 0o600); err != nil {
				rt.Fatal(err)
			}
		}
		p, err := pack(from)
		if err != nil {
			rt.Fatal(err)
		}
		raw, err := io.ReadAll(p)
		p.Close()
		if err != nil || int64(len(raw)) != p.size {
			rt.Fatalf("%d bytes, not %d: %v", len(raw), p.size, err)
		}
		to, _ := os.MkdirTemp(base, "to")
		if err := unpack(bytes.NewReader(raw), to); err != nil {
			rt.Fatal(err)
		}
		for name, data := range files {
			if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, data) {
				rt.Fatalf("%s: %v", name, err)
			}
		}
		bad := bytes.Clone(raw)
		at := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
		if rapid.Bool().Draw(rt, "cut") {
			bad = bad[:at]
		} else {
			bad[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
		}
		to2, _ := os.MkdirTemp(base, "bad")
		if err := unpack(bytes.NewReader(bad), to2); err == nil {
			rt.Fatal("a damaged stream was taken")
		}
	})
}

func FuzzUnpack(f *testing.F) {
	dir := f.TempDir()
	os.WriteFile(filepath.Join(dir, "a.sst"), []byte("content"), 0o600)
	p, err := pack(dir)
	if err != nil {
		f.Fatal(err)
	}
	raw, _ := io.ReadAll(p)
	p.Close()
	f.Add(raw)
	f.Add([]byte(streamMagic + "\x00\x03\x00\x00\x00\x00\x00\x00\x00\x01../x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		base := t.TempDir()
		to := filepath.Join(base, "to")
		os.Mkdir(to, 0o700)
		_ = unpack(bytes.NewReader(raw), to)
		if list, _ := os.ReadDir(base); len(list) != 1 {
			t.Fatalf("it wrote outside: %v", list)
		}
	})
}

func FuzzDecodeSlot(f *testing.F) {
	body := []byte(`{"Version":1,"Seq":3}`)
	f.Add(append([]byte(hex64(xxh3.Hash(body))+"\n"), body...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := decodeSlot(raw); err != nil && !errs.Is(err, errs.Corrupt) {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Drive":"00000000-0000-4000-8000-000000000001","Standing":"member","Epoch":2}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if id, err := decodeIdentity(raw); err == nil && id.Drive.IsZero() {
			t.Fatal("an identity without a drive")
		}
	})
}

func FuzzDecodeSnapMeta(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Index":3,"Term":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, err := decodeSnapMeta(raw); err == nil {
			m.raftMeta(0)
		}
	})
}

// TestTally: which survivors are enough to go on from.
func TestTally(t *testing.T) {
	ids := make([]twofold.DriveID, 6)
	for i := range ids {
		ids[i] = twofold.NewUUID()
	}
	type replica struct {
		id      int
		index   uint64
		config  []int // voters in its log
		planned []int // voters it was told of
	}
	four, five := []int{0, 1, 2, 3}, []int{0, 1, 2, 3, 4}
	for name, c := range map[string]struct {
		here             []replica
		majority, enough bool
		best             int
	}{
		"one of one":   {here: []replica{{0, 5, []int{0}, nil}}, majority: true, enough: true},
		"one of two":   {here: []replica{{0, 5, []int{0, 1}, nil}}, enough: true},
		"one of three": {here: []replica{{0, 5, []int{0, 1, 2}, nil}}},
		"two of three": {here: []replica{{0, 5, []int{0, 1, 2}, nil}, {1, 7, []int{0, 1, 2}, nil}}, majority: true, enough: true, best: 1},
		"one of four":  {here: []replica{{2, 5, four, four}}},
		"two of four":  {here: []replica{{2, 9, four, four}, {3, 7, four, four}}, enough: true},
		"three of four": {here: []replica{{1, 9, four, four}, {2, 9, four, four}, {3, 10, four, four}},
			majority: true, enough: true, best: 2},
		"two of five": {here: []replica{{2, 9, five, five}, {3, 7, five, five}}},
		// A fifth one was about to vote: commits may be with the three others.
		"two of four, and a fifth planned": {here: []replica{{2, 9, four, five}, {3, 7, four, five}}},
		// One of three and the one that was to become the fourth: the two others may have committed.
		"one of three with a new one": {here: []replica{{2, 5, []int{0, 1, 2}, four}, {3, 5, []int{0, 1, 2}, four}}},
		// A replica that is not in the configuration does not count.
		"a stranger": {here: []replica{{2, 5, []int{0, 1, 2}, nil}, {5, 5, []int{0, 1, 2}, nil}}},
		"nobody":     {here: nil, best: -1},
	} {
		t.Run(name, func(t *testing.T) {
			var nodes []*node
			var histories []history
			for _, r := range c.here {
				n := &node{files: &files{}, sid: raft.ServerID(ids[r.id].String())}
				for _, v := range r.planned {
					n.ident.Voters = append(n.ident.Voters, ids[v])
				}
				h := history{last: position{1, r.index}}
				for _, v := range r.config {
					h.config.Servers = append(h.config.Servers, serverOf(ids[v], raft.Voter))
				}
				nodes, histories = append(nodes, n), append(histories, h)
			}
			q := tally(nodes, histories)
			if q.majority != c.majority || q.enough != c.enough || q.best != c.best {
				t.Errorf("majority %v, enough %v, best %d", q.majority, q.enough, q.best)
			}
		})
	}
}
