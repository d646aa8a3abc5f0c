package remote

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// rawMount is a mount that says what it likes.
func rawMount(t testing.TB, n *node) *rpc.Conn {
	t.Helper()
	c, err := rpc.Dial(t.Context(), n.addr, rpc.Config{Secret: secret(t), Role: rpc.RoleMount, Logger: quiet()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func rawBegin(t testing.TB, c *rpc.Conn) beginAns {
	t.Helper()
	var a beginAns
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mBegin, Header: beginReq{"raw"}, Reply: &a}); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestBadRequests(t *testing.T) {
	var reached atomic.Int32
	st := newStore(func(*fakeSession) hook {
		return func(context.Context, string, ...any) ([]any, error) { reached.Add(1); return nil, nil }
	})
	c := rawMount(t, startNode(t, st))
	rawBegin(t, c)
	seq := uint64(0)
	num := func(body any) any {
		seq++
		return numbered[any]{Seq: seq, Acked: 1, Body: body}
	}
	long := strings.Repeat("n", twofold.MaxNameLen+1)
	u32 := func(v uint32) *uint32 { return &v }
	i64 := func(v int64) *int64 { return &v }
	segs := func(s ...segment) writeReq { return writeReq{Ino: 1, Segments: s} }
	for name, tc := range map[string]struct {
		m       rpc.Method
		header  any
		payload []byte
	}{
		"inode 0":               {m: mGetAttr, header: inoReq{0}},
		"empty name":            {m: mLookup, header: nameReq{1, ""}},
		"slash":                 {m: mLookup, header: nameReq{1, "a/b"}},
		"NUL":                   {m: mLookup, header: nameReq{1, "a\x00"}},
		"dot":                   {m: mUnlink, header: num(nameReq{1, "."})},
		"dot dot":               {m: mRmdir, header: num(nameReq{1, ".."})},
		"long name":             {m: mUnlink, header: num(nameReq{1, long})},
		"second name":           {m: mRename, header: num(renameReq{1, "a", 1, "b/c", 0})},
		"rename flags":          {m: mRename, header: num(renameReq{1, "a", 1, "b", 8})},
		"link to 0":             {m: mLink, header: num(linkReq{1, 0, "a"})},
		"mode":                  {m: mSetAttr, header: num(setAttrReq{1, api.SetAttr{Mode: u32(0o10000)}})},
		"negative size":         {m: mSetAttr, header: num(setAttrReq{1, api.SetAttr{Size: i64(-1)}})},
		"huge size":             {m: mSetAttr, header: num(setAttrReq{1, api.SetAttr{Size: i64(1<<63 - 1)}})},
		"type 0":                {m: mCreate, header: num(createReq{1, "a", api.Create{}})},
		"type 9":                {m: mCreate, header: num(createReq{1, "a", api.Create{Type: 9}})},
		"file with target":      {m: mCreate, header: num(createReq{1, "a", api.Create{Type: metadata.TypeFile, Target: "x"}})},
		"symlink to nothing":    {m: mCreate, header: num(createReq{1, "a", api.Create{Type: metadata.TypeSymlink}})},
		"long target":           {m: mCreate, header: num(createReq{1, "a", api.Create{Type: metadata.TypeSymlink, Target: strings.Repeat("x", 4096)}})},
		"no entries":            {m: mReadDir, header: readDirReq{Dir: 1}},
		"negative read":         {m: mRead, header: readReq{1, 0, -1}},
		"negative offset":       {m: mRead, header: readReq{1, -1, 1}},
		"huge read":             {m: mRead, header: readReq{1, 0, api.MaxIO + 1}},
		"payload too short":     {m: mWrite, header: num(segs(segment{Off: 0, Len: 5})), payload: []byte("four")},
		"payload too long":      {m: mWrite, header: num(segs(segment{Off: 0, Len: 3})), payload: []byte("four")},
		"overlap":               {m: mWrite, header: num(segs(segment{Off: 0, Len: 3}, segment{Off: 2, Len: 1})), payload: []byte("four")},
		"order":                 {m: mWrite, header: num(segs(segment{Off: 9, Len: 3}, segment{Off: 2, Len: 1})), payload: []byte("four")},
		"empty segment":         {m: mWrite, header: num(segs(segment{Off: 0, Len: 0}))},
		"negative segment":      {m: mWrite, header: num(segs(segment{Off: -1, Len: 4})), payload: []byte("four")},
		"segment overflow":      {m: mWrite, header: num(segs(segment{Off: 1<<63 - 2, Len: 4})), payload: []byte("four")},
		"sum over MaxIO":        {m: mWrite, header: num(segs(segment{Off: 0, Len: api.MaxIO}, segment{Off: 1 << 30, Len: 1}))},
		"negative hole":         {m: mWrite, header: num(writeReq{Ino: 1, Punch: []metadata.Range{{Off: 0, Len: -1}}})},
		"hole overflow":         {m: mWrite, header: num(writeReq{Ino: 1, Punch: []metadata.Range{{Off: 1 << 62, Len: 1 << 62}}})},
		"negative promise":      {m: mPromise, header: num(promiseReq{-1})},
		"huge promise":          {m: mPromise, header: num(promiseReq{api.MaxPromise + 1})},
		"held too much":         {m: mResume, header: resumeReq{ID: 1, Promised: 1 << 62}, payload: []byte{0x82, 0x80, 0x80}},
		"long etag":             {m: mWrite, header: num(writeReq{Ino: 1, ETag: strings.Repeat("e", 200)})},
		"xattr without name":    {m: mGetXattr, header: xattrReq{1, ""}},
		"xattr flags":           {m: mSetXattr, header: num(setXattrReq{1, "user.a", nil, 3})},
		"xattr flag 512":        {m: mSetXattr, header: num(setXattrReq{1, "user.a", nil, 512})},
		"mode asked for":        {m: mCreate, header: num(createReq{1, "a", api.Create{Type: metadata.TypeFile, Asked: 0o1000}})},
		"mode of a tmpfile":     {m: mTmpfile, header: num(tmpfileReq{1, api.Create{Type: metadata.TypeFile, Asked: 0o1000}})},
		"long xattr":            {m: mSetXattr, header: num(setXattrReq{1, "user.a", make([]byte, maxXattr+1), 0})},
		"no number":             {m: mUnlink, header: numbered[any]{Seq: 0, Acked: 0, Body: nameReq{1, "a"}}},
		"acked before its time": {m: mUnlink, header: numbered[any]{Seq: 5, Acked: 6, Body: nameReq{1, "a"}}},
		"far ahead":             {m: mUnlink, header: numbered[any]{Seq: 1 << 40, Acked: 1, Body: nameReq{1, "a"}}},
		"settle far ahead":      {m: mSettle, header: settleReq{1 << 40}},
		"wrong type":            {m: mLookup, header: "a string"},
		"no header":             {m: mLookup},
		"second begin":          {m: mBegin, header: beginReq{"raw"}},
		"bad holdings":          {m: mResume, header: resumeReq{ID: 1}, payload: []byte{1, 2, 3}},
		"unknown method":        {m: 999},
		"a server's method":     {m: mRecall, header: leaseReq{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Call(t.Context(), &rpc.Call{Method: tc.m, Header: tc.header, Payload: [][]byte{tc.payload}})
			switch errs.KindOf(err) {
			case errs.Invalid, errs.NameTooLong, errs.TooLarge, errs.Unsupported:
			default:
				t.Fatalf("got %v", err)
			}
		})
	}
	if n := reached.Load(); n != 0 {
		t.Fatalf("%d of them reached the volume", n)
	}
}

func TestNoSessionNoService(t *testing.T) {
	st := newStore(newCounter().hook)
	n := startNode(t, st)
	c := rawMount(t, n)
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mGetAttr, Header: inoReq{1}}); !errs.Is(err, errs.Fenced) {
		t.Fatalf("got %v", err)
	}
	owner := rawMount(t, n)
	a := rawBegin(t, owner)
	held := [][]byte{{0x82, 0x80, 0x80}}
	for _, r := range []resumeReq{{ID: a.ID}, {ID: a.ID, Token: []byte("guess")}, {ID: a.ID + 9, Token: a.Token}} {
		if _, err := c.Call(t.Context(), &rpc.Call{Method: mResume, Header: r, Payload: held}); !errs.Is(err, errs.Fenced) {
			t.Fatalf("resume with %+v: %v", r, err)
		}
	}
	if owner.Err() != nil {
		t.Fatal("guessing cut off the owner of the session")
	}
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mResume, Header: resumeReq{ID: a.ID, Token: a.Token}, Payload: held}); err != nil {
		t.Fatal(err)
	}
	<-owner.Done() // a session has one connection
}

// A late copy of an answered call, from a connection that was given up, does not
// run again.
func TestLateCopy(t *testing.T) {
	var runs atomic.Int32
	st := newStore(func(*fakeSession) hook {
		return func(_ context.Context, name string, _ ...any) ([]any, error) { runs.Add(1); return nil, nil }
	})
	c := rawMount(t, startNode(t, st))
	rawBegin(t, c)
	send := func(seq, acked uint64) error {
		_, err := c.Call(t.Context(), &rpc.Call{Method: mUnlink, Header: numbered[nameReq]{Seq: seq, Acked: acked, Body: nameReq{2, "x"}}})
		return err
	}
	if err := send(1, 1); err != nil {
		t.Fatal(err)
	}
	if err := send(1, 1); err != nil || runs.Load() != 1 {
		t.Fatalf("the same again: %v, %d runs", err, runs.Load())
	}
	if err := send(2, 2); err != nil {
		t.Fatal(err)
	}
	if err := send(1, 1); !errs.Is(err, errs.Invalid) || runs.Load() != 2 {
		t.Fatalf("a late copy: %v, %d runs", err, runs.Load())
	}
	// A number that was settled before it came is refused when it comes.
	var a settleAns
	if _, err := c.Call(t.Context(), &rpc.Call{Method: mSettle, Header: settleReq{3}, Reply: &a}); err != nil || a.Done {
		t.Fatal(a, err)
	}
	if err := send(3, 2); !errs.Is(err, errs.Canceled) || runs.Load() != 2 {
		t.Fatalf("after it was settled: %v, %d runs", err, runs.Load())
	}
}

// FuzzRequest sends any header and payload to any method of a session.
func FuzzRequest(f *testing.F) {
	st := newStore(func(*fakeSession) hook {
		return func(_ context.Context, name string, args ...any) ([]any, error) {
			for _, a := range args {
				if s, ok := a.(string); ok && name != "ReadDir" && (s == "" || strings.Contains(s, "\x00")) {
					panic("a bad string came through to " + name)
				}
				if w, ok := a.(api.Write); ok && (w.Size < 0 || len(w.Segments) > maxSegments) {
					panic("a bad write came through")
				}
			}
			return nil, nil
		}
	})
	codec, err := rpc.NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	add := func(m rpc.Method, v any, payload string) {
		b, err := codec.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(m), b, []byte(payload))
	}
	add(mLookup, nameReq{1, "a"}, "")
	add(mWrite, numbered[writeReq]{Seq: 1, Acked: 1, Body: writeReq{Ino: 1, Segments: []segment{{Off: 3, Len: 2}}}}, "ab")
	add(mCreate, numbered[createReq]{Seq: 1, Acked: 1, Body: createReq{1, "a", api.Create{Type: 1}}}, "")
	add(mSetXattr, numbered[setXattrReq]{Seq: 2, Acked: 1, Body: setXattrReq{1, "user.a", []byte("v"), 0}}, "")
	add(mRead, readReq{1, 5, 100}, "")
	add(mResume, resumeReq{ID: 1, Token: []byte("token")}, "\x82\x80\x80")
	c := rawMount(f, startNode(f, st))
	rawBegin(f, c)
	into := make([]byte, api.MaxIO)
	f.Fuzz(func(t *testing.T, m uint16, header, payload []byte) {
		if rpc.Method(m) == mEnd {
			return
		}
		var h any
		if len(header) > 0 {
			h = rawHeader(header)
		}
		var reply cbor.RawMessage
		_, err := c.Call(t.Context(), &rpc.Call{Method: rpc.Method(m), Header: h, Payload: [][]byte{payload}, Reply: &reply, Into: into})
		if errs.Is(err, errs.Other) || c.Err() != nil {
			t.Fatalf("method %d: %v, connection: %v", m, err, c.Err())
		}
	})
}

// rawHeader goes out as the bytes it is.
type rawHeader []byte

func (r rawHeader) MarshalCBOR() ([]byte, error) { return r, nil }
