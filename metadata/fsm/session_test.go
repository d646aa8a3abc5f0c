package fsm

import (
	"fmt"
	"strings"
	"testing"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

func (r *rig) mustFail(k errs.Kind, res metadata.Result) {
	r.t.Helper()
	if !res.Failed || res.Kind != k {
		r.t.Fatalf("got %+v, want %v", res, k)
	}
}

func (r *rig) countKeys(prefix string) (n int) {
	err := r.store.View(func(s kv.Reader) error {
		return s.Scan([]byte(prefix), bound(prefixEnd(prefix)), func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *rig) begin(nonce byte) twofold.SessionID {
	res := r.raw(&metadata.Command{Op: metadata.OpBeginSession, Body: metadata.BeginSession{Kind: metadata.SessionMount, Nonce: twofold.UUID{nonce}}})
	return twofold.SessionID(res.ID)
}

// TestRetry: a command that comes again has its effect once, and its result again.
func TestRetry(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	create := &metadata.Command{Op: metadata.OpCreate, Session: r.session, Seq: 100, Acked: 2,
		Body: metadata.Create{Parent: b.Root, Name: metadata.Name{Comp: "f"}, Type: metadata.TypeFile, Exclusive: true}}
	first := r.raw(create)
	r.put(b, "other", "x")
	r.reopen()
	again := *create
	again.Now = 99999
	if second := r.raw(&again); second.Failed || second.Inode.Ino != first.Inode.Ino || second.Inode.Ctime != first.Inode.Ctime {
		t.Fatalf("first %+v, then %+v", first, second)
	}
	refused := &metadata.Command{Op: metadata.OpCreate, Session: r.session, Seq: 101, Acked: 2, Body: create.Body}
	r.mustFail(errs.Exists, r.raw(refused))
	r.ok(metadata.OpUnlink, metadata.Unlink{Parent: b.Root, Name: metadata.Name{Comp: "f"}})
	again2 := *refused
	r.mustFail(errs.Exists, r.raw(&again2)) // a failure is a result too
	r.check()
}

// TestAcked: acknowledged results go, and their commands can't come back.
func TestAcked(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	for n := range 200 {
		r.put(b, fmt.Sprint("k", n), "x")
	}
	if n := r.countKeys(num(pKept, uint64(r.session))); n > maxAckReap {
		t.Fatalf("%d results kept, all but one acknowledged", n)
	}
	late := &metadata.Command{Op: metadata.OpDeleteObject, Session: r.session, Seq: 3, Body: metadata.DeleteObject{Bucket: b.ID, Key: "k1"}}
	for range 2 {
		r.mustFail(errs.UnknownOutcome, r.raw(late))
		r.reopen()
	}
	if keys := r.keys(b, metadata.ListQuery{Prefix: "k1", Max: 1}); len(keys) != 1 {
		t.Fatal("an acknowledged command that came late had an effect")
	}
}

func TestFenced(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	writer := r.begin(2)
	put := func(session, w twofold.SessionID, seq uint64) metadata.Result {
		blob := &twofold.Blob{ID: twofold.MakeBlobID(w, seq), Size: 10, Data: 1}
		return r.raw(&metadata.Command{Op: metadata.OpPutObject, Session: session, Seq: seq, Writer: w, Body: metadata.PutObject{
			Bucket: b.ID, Key: "k", Content: metadata.Content{Size: 10}, Extents: []metadata.Extent{{Len: 10, Blob: blob}}}})
	}
	if res := put(r.session, writer, 1000); res.Failed {
		t.Fatal(res)
	}
	r.ok(metadata.OpEndSession, metadata.EndSession{ID: writer})
	r.ok(metadata.OpEndSession, metadata.EndSession{ID: writer})
	r.mustFail(errs.Fenced, put(r.session, writer, 1001)) // a late commit of its blobs
	r.mustFail(errs.Fenced, put(writer, 0, 1))            // a late command of its own
	r.mustFail(errs.Fenced, put(999, 0, 1))
	r.mustFail(errs.Fenced, put(0, 0, 1))
	if res := put(r.session, writer, 1000); res.Failed {
		t.Fatal("what was committed before has its result:", res)
	}
	r.check()
}

// TestLateCopyFromAnEndedWriter: what a server that was replaced still sends for a mount does
// not take the number from it.
func TestLateCopyFromAnEndedWriter(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	old, next := r.begin(2), r.begin(3)
	put := func(w twofold.SessionID) metadata.Result {
		return r.raw(&metadata.Command{Op: metadata.OpPutObject, Session: r.session, Seq: 1000, Writer: w, Body: metadata.PutObject{
			Bucket: b.ID, Key: "k", Content: metadata.Content{Size: 1}, Extents: []metadata.Extent{{Len: 1, Data: []byte("x")}}}})
	}
	r.ok(metadata.OpEndSession, metadata.EndSession{ID: old})
	r.mustFail(errs.Fenced, put(old))
	first := put(next)
	if first.Failed {
		t.Fatal("refused by what the old server sent:", first)
	}
	if res := put(old); res.Failed || res.Inode.Ino != first.Inode.Ino {
		t.Fatal("a copy of what was done is answered as that:", res)
	}
	r.check()
}

func TestSessionLife(t *testing.T) {
	r := newRig(t)
	s := r.begin(9)
	if again := r.begin(9); again != s {
		t.Fatal("one nonce, two sessions", s, again)
	}
	for n := range uint64(2500) {
		r.raw(&metadata.Command{Op: metadata.OpNop, Session: s, Seq: n})
	}
	r.mustFail(errs.Busy, r.do(metadata.OpForgetSession, metadata.ForgetSession{ID: s}))
	r.raw(&metadata.Command{Op: metadata.OpEndSession, Session: s, Seq: 5000, Body: metadata.EndSession{ID: s}})
	rounds := 1
	for r.ok(metadata.OpForgetSession, metadata.ForgetSession{ID: s}).More {
		r.check()
		rounds++
	}
	if rounds != 3 || r.countKeys(num(pKept, uint64(s))) != 0 || r.countKeys(sessionKey(s)) != 0 {
		t.Fatalf("%d rounds; something is left", rounds)
	}
	r.ok(metadata.OpForgetSession, metadata.ForgetSession{ID: s})
	r.mustFail(errs.Fenced, r.raw(&metadata.Command{Op: metadata.OpNop, Session: s, Seq: 6000}))
	if next := r.begin(9); next == s {
		t.Fatal("a session's id was used again")
	}
	r.check()
	r.view(func(v metadata.View) {
		if all, err := v.Sessions(); err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		if _, err := v.Session(s); !errs.Is(err, errs.Fenced) {
			t.Fatal(err)
		}
	})
}

// TestRefusedIsUndone: a command that fails late leaves nothing but its result.
func TestRefusedIsUndone(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	state := func() string {
		var keep []string
		for line := range strings.Lines(dump(t, r.store)) {
			if c := line[:2]; c != "71" && c != "61" && c != "6d" { // kept results, acknowledgements, counters
				keep = append(keep, line)
			}
		}
		return strings.Join(keep, "")
	}
	before := state()
	r.mustFail(errs.NotFound, r.do(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: "new/dirs/k", Content: metadata.Content{Size: 1},
		Extents: []metadata.Extent{{Len: 1, Data: []byte("x")}}, Cond: metadata.Conditions{IfMatch: "*"}}))
	big := map[string]string{"k": strings.Repeat("x", maxXattrs)}
	r.mustFail(errs.TooLarge, r.do(metadata.OpPutObject, metadata.PutObject{Bucket: b.ID, Key: "new/dirs/k", Content: metadata.Content{UserMeta: big}}))
	if after := state(); after != before {
		t.Fatalf("%s\n%s", before, after)
	}
	if res := r.put(b, "k", "x"); res.Ino != b.Root+1 {
		t.Fatal("refused commands used up numbers", res.Ino)
	}
}

// TestRevoke: what was taken from a mount is kept of it, within bounds, and only more is noted
// where those are met.
func TestRevoke(t *testing.T) {
	r := newRig(t)
	id := r.begin(2)
	rec := func() (s metadata.Session) {
		if err := r.m.View(func(v metadata.View) error {
			p, err := v.Session(id)
			if err == nil {
				s = *p
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	r.ok(metadata.OpRevoke, metadata.Revoke{ID: id, Tokens: []uint64{9, 7}, Locks: []twofold.Ino{1030, 1025}})
	r.ok(metadata.OpRevoke, metadata.Revoke{ID: id, Tokens: []uint64{8, 9}, Locks: []twofold.Ino{1026}, Closed: []twofold.Ino{1030, 1026}})
	r.reopen()
	s := rec()
	for token, want := range map[uint64]bool{6: false, 7: true, 8: true, 9: true, 10: false} {
		if s.Lost(token) != want {
			t.Errorf("token %d: %v", token, !want)
		}
	}
	for ino, want := range map[twofold.Ino]bool{1024: false, 1025: true, 1026: true, 1030: false} {
		if s.LostLocks(ino) != want {
			t.Errorf("inode %d: %v", ino, !want)
		}
	}
	var tokens []uint64
	var inos []twofold.Ino
	for i := range maxRevoked {
		tokens, inos = append(tokens, uint64(1000+2*i)), append(inos, twofold.Ino(5000+i))
	}
	r.ok(metadata.OpRevoke, metadata.Revoke{ID: id, Tokens: tokens, Locks: inos})
	if s = rec(); len(s.Revoked) > maxRevoked || len(s.Unlocked) > maxRevoked {
		t.Errorf("%d tokens and %d inodes are kept", len(s.Revoked), len(s.Unlocked))
	}
	for token, want := range map[uint64]bool{1: true, 9: true, 11: false, 1000: true, 1001: false, 1000 + 2*maxRevoked - 2: true, 9999: false} {
		if s.Lost(token) != want {
			t.Errorf("too many tokens: %d: %v", token, !want)
		}
	}
	if !s.LostLocks(1025) || !s.LostLocks(5000) || !s.LostLocks(4000) {
		t.Error("too many locks: one is believed")
	}
	r.ok(metadata.OpEndSession, metadata.EndSession{ID: id})
	r.ok(metadata.OpRevoke, metadata.Revoke{ID: id, Tokens: []uint64{20000}})
	if s = rec(); s.Lost(20000) || !s.Ended {
		t.Error("a session that has ended was changed")
	}
	r.ok(metadata.OpRevoke, metadata.Revoke{ID: 999, Tokens: []uint64{1}})
	r.check()
}
