package replica

import (
	"bytes"
	"math/rand"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
)

func testRequest(sizes ...int) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{
		RPCHeader: headerOf(twofold.DriveID{1}), Leader: headerOf(twofold.DriveID{1}).Addr,
		Term: 7, PrevLogEntry: 41, PrevLogTerm: 5, LeaderCommitIndex: 1000, Entries: []*raft.Log{},
	}
	for i, n := range sizes {
		r.Entries = append(r.Entries, &raft.Log{
			Index: 42 + uint64(i), Term: 6, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, n), AppendedAt: time.Unix(0, 99),
		})
	}
	return r
}

// TestAppendMessage: a request becomes messages that say the same together, of which none
// commits more than it carries.
func TestAppendMessage(t *testing.T) {
	for _, sizes := range [][]int{nil, {0}, {10, 20, 30}, {partBytes, 1, partBytes + 1, 5}, {8 << 20}, {600 << 10, 600 << 10, 600 << 10}} {
		r := testRequest(sizes...)
		next, prevTerm := uint64(42), uint64(5)
		for i, p := range parts(r) {
			msg := encodeAppend(twofold.DriveID{1}, r, p, 3, uint64(i))
			if len(msg) > MaxMessage {
				t.Errorf("%v: a message of %d bytes", sizes, len(msg))
			}
			a, err := decodeAppend(msg)
			if err != nil {
				t.Fatalf("%v: %v", sizes, err)
			}
			q := a.req
			if a.stream != 3 || a.place != uint64(i) || q.Term != 7 || q.PrevLogEntry != next-1 || q.PrevLogTerm != prevTerm ||
				q.LeaderCommitIndex != next-1+uint64(len(q.Entries)) || string(q.Addr) != string(r.Addr) {
				t.Errorf("%v: %+v", sizes, q)
			}
			for _, e := range q.Entries {
				want := r.Entries[e.Index-42]
				if e.Index != next || e.Term != want.Term || e.Type != want.Type || !bytes.Equal(e.Data, want.Data) || !e.AppendedAt.Equal(want.AppendedAt) {
					t.Errorf("%v: entry %d differs", sizes, e.Index)
				}
				next, prevTerm = next+1, e.Term
			}
		}
		if next != 42+uint64(len(sizes)) {
			t.Errorf("%v: %d entries arrived", sizes, next-42)
		}
	}
}

// TestBadMessages: what would make the library panic, or the log wrong, is refused.
func TestBadMessages(t *testing.T) {
	for name, spoil := range map[string]func(*raft.AppendEntriesRequest){
		"type":          func(r *raft.AppendEntriesRequest) { r.Entries[0].Type = 77 },
		"deprecated":    func(r *raft.AppendEntriesRequest) { r.Entries[0].Type = raft.LogAddPeerDeprecated },
		"configuration": func(r *raft.AppendEntriesRequest) { r.Entries[0].Type = raft.LogConfiguration },
		"term ahead":    func(r *raft.AppendEntriesRequest) { r.Entries[1].Term = 8 },
		"term back":     func(r *raft.AppendEntriesRequest) { r.Entries[1].Term = 5 },
		"no term":       func(r *raft.AppendEntriesRequest) { r.Term = 0 },
		"previous term": func(r *raft.AppendEntriesRequest) { r.PrevLogTerm = 8 },
	} {
		r := testRequest(3, 3, 3)
		spoil(r)
		if _, err := decodeAppend(encodeAppend(twofold.DriveID{1}, r, part{0, 3}, 0, 0)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := encodeAppend(twofold.DriveID{1}, testRequest(3, 3), part{0, 2}, 0, 0)
	for n := range good {
		if _, err := decodeAppend(good[:n]); err == nil {
			t.Errorf("%d of %d bytes are a message", n, len(good))
		}
	}
	if _, err := decodeAppend(append(good, 0)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a byte too many: %v", err)
	}
	good[0] = 9
	if _, err := decodeAppend(good); !errs.Is(err, errs.Unsupported) {
		t.Errorf("another version: %v", err)
	}
}

// FuzzMessages: no bytes make a decoder panic, or take more memory than they are; what is
// taken is encoded to the same.
func FuzzMessages(f *testing.F) {
	c := raft.Configuration{Servers: []raft.Server{serverOf(twofold.DriveID{1}, raft.Voter)}}
	r := testRequest(3, 5)
	r.Entries[1] = &raft.Log{Index: 43, Term: 7, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
	f.Add(encodeAppend(twofold.DriveID{1}, r, part{0, 2}, 1, 2))
	f.Add(encodeBallot(twofold.DriveID{1}, ballot{3, 2, 1, true}))
	f.Add(encodePromise(twofold.DriveID{1}, 3, 2))
	f.Add(encodeAsk(twofold.DriveID{1}, askVoter, twofold.DriveID{2}))
	f.Add(encodeSnapOpen(twofold.DriveID{1}, 9, &raft.InstallSnapshotRequest{
		SnapshotVersion: 1, Term: 3, LastLogIndex: 9, LastLogTerm: 2, Size: 100, Configuration: raft.EncodeConfiguration(c),
	}))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if a, err := decodeAppend(msg); err == nil {
			again := encodeAppend(driveOf(raft.ServerID(a.req.ID)), a.req, part{0, len(a.req.Entries)}, a.stream, a.place)
			if !bytes.Equal(again, msg) {
				t.Error("an append that is another one when it is encoded again")
			}
		}
		if b, from, err := decodeBallot(msg); err == nil && !bytes.Equal(encodeBallot(from, b), msg) {
			t.Error("a ballot that is another one")
		}
		decodeSnapOpen(msg)
		decodePromise(msg)
		decodeAsk(msg)
		decodeVoted(msg)
		decodeInstalled(msg)
		decodePromiseAnswer(msg)
		decodeWhere(msg)
		decodeAppended(msg, &raft.AppendEntriesResponse{})
	})
}

// TestOrdering: messages of a pipeline are handed over in order, whatever order they
// come in, and those of one before not at all.
func TestOrdering(t *testing.T) {
	var o ordering
	got := make(chan uint64, 100)
	done := make(chan error, 100)
	for _, place := range rand.Perm(50) {
		a := appended{stream: 2, place: uint64(place), req: &raft.AppendEntriesRequest{Term: 4}}
		go func() {
			done <- o.inTurn(t.Context(), a, func() error { got <- a.place; return nil })
		}()
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(50) {
		if p := <-got; p != i {
			t.Fatalf("message %d in the place of %d", p, i)
		}
	}
	for _, late := range []appended{
		{stream: 1, req: &raft.AppendEntriesRequest{Term: 4}},
		{stream: 9, req: &raft.AppendEntriesRequest{Term: 3}},
		{stream: 2, place: 49, req: &raft.AppendEntriesRequest{Term: 4}},
	} {
		if err := o.inTurn(t.Context(), late, func() error { return nil }); !errs.Is(err, errs.Stale) {
			t.Errorf("stream %d of term %d: %v", late.stream, late.req.Term, err)
		}
	}
}
