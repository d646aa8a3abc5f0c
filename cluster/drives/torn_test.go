package drives

import (
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
)

// tamper changes a bit of the payload of requests, or answers, of a method: n times.
func (l *link) tamper(m rpc.Method, answers bool, n int64) {
	var left atomic.Int64
	left.Store(n)
	fn := func(t *torn) {
		if t.call.Method == m && t.answer == answers && len(t.payload) > 0 && left.Add(-1) >= 0 {
			t.payload[len(t.payload)/2] ^= 4
		}
	}
	l.tamp.Store(&fn)
}

// TestChangedOnTheWay: what arrives with other bytes than were sent is never stored, nor
// returned; it is asked for again, once, and says nothing about the shard.
func TestChangedOnTheWay(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	d := n.remote(l.ID())
	const size = 40 * drivetest.Stripe
	blocks, err := drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), size, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1, size} {
		n.link.tamper(mWrite, false, 1)
		_, err = drivetest.Put(ctx, d, drivetest.Header(c, blob(2)), size, 2, "")
		wantKind(t, "a shard with a changed bit", err, errs.Unavailable)
		_, err = l.Stat(ctx, blob(2))
		wantKind(t, "stat of it", err, errs.NotFound)
	}
	for _, small := range []bool{false, true} {
		m := mRead
		if small {
			m = mOpen
			if blocks, err = drivetest.Put(ctx, d, drivetest.Header(c, blob(1)), 10, 1, ""); err != nil {
				t.Fatal(err)
			}
		}
		for times := range int64(3) {
			n.link.tamper(m, true, times)
			r, err := d.Open(ctx, blob(1))
			if err == nil {
				var p []byte
				var release func()
				if p, release, err = r.LendBlock(ctx, 0, 0, len(blocks[0])); err == nil {
					if !bytes.Equal(p, blocks[0]) {
						t.Error("other bytes were lent")
					}
					release()
				}
				r.Close()
			}
			if times == 2 {
				wantKind(t, "changed each time", err, errs.Unavailable)
			} else if err != nil {
				t.Errorf("changed %d times: %v", times, err)
			}
		}
	}
}

// liar answers a method with whatever it is given.
type liar struct {
	Caller
	codec  *rpc.Codec
	method rpc.Method
	msg    any
	bytes  []byte
	torn   bool
}

func (l *liar) Call(ctx context.Context, c *rpc.Call) (int, error) {
	if c.Method != l.method {
		return l.Caller.Call(ctx, c)
	}
	s, err := seal(l.codec, c.Method, l.msg, l.bytes)
	if err != nil {
		return 0, err
	}
	if len(l.bytes) > len(c.Into) {
		return 0, errs.Newf("test", errs.Unavailable, "rpc ends the connection")
	}
	if l.torn {
		s.Sum++
	}
	*c.Reply.(*sealed) = s
	return copy(c.Into, l.bytes), nil
}

// TestLies: a node that says what can't be is refused, whatever it says.
func TestLies(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	truth := n.remote(l.ID())
	const size = 40 * drivetest.Stripe
	if _, err := drivetest.Put(ctx, truth, drivetest.Header(c, blob(1)), size, 1, ""); err != nil {
		t.Fatal(err)
	}
	codec, err := rpc.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	lie := &liar{Caller: n.link, codec: codec}
	node2, err := NewNode(lie, Options{Name: "liar", Control: n.link})
	if err != nil {
		t.Fatal(err)
	}
	defer node2.Close()
	d := node2.Drive(l.ID(), "liar")
	if err := node2.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	open := func(change func(a *openAnswer)) *openAnswer {
		h := drivetest.Header(c, blob(1))
		a := &openAnswer{Header: toWire(h), Trailer: &wireTrailer{Size: size}, Bytes: size}
		change(a)
		return a
	}
	for name, tt := range map[string]struct {
		msg   any
		bytes []byte
		want  errs.Kind
	}{
		"nothing":        {nil, nil, errs.Invalid},
		"garbage":        {"a text", nil, errs.Invalid},
		"no header":      {open(func(a *openAnswer) { a.Header = nil }), nil, errs.Invalid},
		"no trailer":     {open(func(a *openAnswer) { a.Trailer = nil }), nil, errs.Invalid},
		"another blob":   {open(func(a *openAnswer) { a.Header.Blob = blob(2) }), nil, errs.Corrupt},
		"another store":  {open(func(a *openAnswer) { a.Header.Cluster = twofold.NewUUID() }), nil, errs.Corrupt},
		"no data":        {open(func(a *openAnswer) { a.Header.Data = 0 }), nil, errs.Invalid},
		"index":          {open(func(a *openAnswer) { a.Header.Index = 200 }), nil, errs.Invalid},
		"huge stripe":    {open(func(a *openAnswer) { a.Header.Stripe = 1 << 31 }), nil, errs.Invalid},
		"huge blocks":    {open(func(a *openAnswer) { a.Header.Stripe = 32 << 20 }), nil, errs.Invalid},
		"negative size":  {open(func(a *openAnswer) { a.Trailer.Size = -1 }), nil, errs.Invalid},
		"huge size":      {open(func(a *openAnswer) { a.Trailer.Size, a.Bytes = 1<<63-1, 1<<63-1 }), nil, errs.Invalid},
		"purpose":        {open(func(a *openAnswer) { a.Trailer.Purpose = make([]byte, 5000) }), nil, errs.Invalid},
		"short file":     {open(func(a *openAnswer) { a.Bytes = 10 }), nil, errs.Invalid},
		"content":        {open(func(a *openAnswer) {}), make([]byte, 10), errs.Invalid},
		"little content": {open(func(a *openAnswer) { a.All = true }), make([]byte, 10), errs.Invalid},
	} {
		lie.method, lie.msg, lie.bytes = mOpen, tt.msg, tt.bytes
		_, err := d.Stat(ctx, blob(1))
		if len(tt.bytes) == 0 {
			wantKind(t, "stat, "+name, err, tt.want)
		}
		_, err = d.Open(ctx, blob(1))
		wantKind(t, "open, "+name, err, tt.want)
	}

	lie.method = 0
	r, err := d.Open(ctx, blob(1))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, tt := range map[string]struct {
		msg   any
		bytes []byte
		torn  bool
		want  errs.Kind
	}{
		"few bytes": {nil, make([]byte, 10), false, errs.Invalid},
		"message":   {"text", make([]byte, 20), false, errs.Invalid},
		"torn":      {nil, make([]byte, 20), true, errs.Unavailable},
	} {
		lie.method, lie.msg, lie.bytes, lie.torn = mRead, tt.msg, tt.bytes, tt.torn
		_, release, err := r.LendBlock(ctx, 3, 10, 30)
		wantKind(t, "read, "+name, err, tt.want)
		if release != nil {
			t.Error("release after an error")
		}
		if r.ReadNow(3, 10, make([]byte, 20)) {
			t.Error("a lie is kept")
		}
	}
	lie.torn = false

	ids := func(n ...int) (p []byte) {
		for _, i := range n {
			b := blob(i)
			p = append(p, b[:]...)
		}
		return p
	}
	for name, tt := range map[string]struct {
		more  bool
		bytes []byte
	}{
		"half an id": {false, ids(5)[:10]}, "descending": {false, ids(6, 5)}, "twice": {false, ids(5, 5)},
		"before": {false, ids(1)}, "empty": {true, nil},
	} {
		lie.method, lie.msg, lie.bytes = mWalk, &walkAnswer{More: tt.more}, tt.bytes
		err := d.Walk(ctx, blob(1), func(twofold.BlobID) error { return nil })
		wantKind(t, "walk, "+name, err, errs.Invalid)
	}
	lie.method, lie.msg, lie.bytes = mFormat, drive.Format{Drive: twofold.NewUUID()}, nil
	_, err = d.Format(ctx)
	wantKind(t, "format of another drive", err, errs.Invalid)
	lie.method, lie.msg = mUsage, &usage{Total: 1, Free: 2}
	d.told.Store(nil)
	_, err = d.Usage(ctx)
	wantKind(t, "usage", err, errs.Invalid)

	node3, err := NewNode(lie, Options{Name: "liar"})
	if err != nil {
		t.Fatal(err)
	}
	defer node3.Close()
	for name, drives := range map[string][]told{
		"no id": {{State: drive.Online}}, "state": {{Drive: l.ID(), State: 9}}, "many": slices.Repeat([]told{{Drive: l.ID(), State: 1}}, maxTold+1),
		"space": {{Drive: l.ID(), State: 1, Usage: &usage{1, 2}}},
	} {
		lie.method, lie.msg = mTell, &tellAnswer{Drives: drives}
		wantKind(t, "states, "+name, node3.Refresh(ctx), errs.Invalid)
	}
}
