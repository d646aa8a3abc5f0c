package drives

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/errs"
)

// raw sends a request as it is, sealed, and returns the answer's bytes.
func (n *node) raw(ctx context.Context, m rpc.Method, msg any, payload []byte) ([]byte, error) {
	codec := n.Node.codec
	q, err := seal(codec, m, msg, payload)
	if err != nil {
		return nil, err
	}
	var s sealed
	c := &rpc.Call{Method: m, Header: &q, Reply: &s, Into: make([]byte, 1<<20)}
	if payload != nil {
		c.Payload = [][]byte{payload}
	}
	got, err := n.link.Call(ctx, c)
	return c.Into[:got], err
}

// TestTurns: the calls of a shard have their turn by their numbers, however they arrive.
func TestTurns(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	h := drivetest.Header(c, blob(1))
	const size = 16 * drivetest.Stripe
	blocks := drivetest.Blocks(h, size, 1)
	step := func(i int) *writeRequest {
		q := &writeRequest{Drive: l.ID(), Writer: 5, Seq: uint32(i), Blocks: []uint32{uint32(len(blocks[i]))}}
		switch i {
		case 0:
			q.Header = toWire(h)
		case len(blocks) - 1:
			q.Trailer = &wireTrailer{Size: size}
		}
		return q
	}
	if _, err := n.raw(ctx, mWrite, step(0), blocks[0]); err != nil {
		t.Fatal(err)
	}
	_, err := n.raw(ctx, mWrite, step(0), blocks[0])
	wantKind(t, "a handle in use", err, errs.Invalid)
	far := step(1)
	far.Seq = 1 + maxAhead + 1
	_, err = n.raw(ctx, mWrite, far, blocks[1])
	wantKind(t, "a call far ahead", err, errs.Invalid)
	var wg sync.WaitGroup
	for i := len(blocks) - 1; i > 1; i-- {
		wg.Go(func() {
			if _, err := n.raw(ctx, mWrite, step(i), blocks[i]); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	if _, err := n.raw(ctx, mWrite, step(1), blocks[1]); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := drivetest.Verify(ctx, l, h.Blob, blocks); err != nil {
		t.Fatal(err)
	}
	_, err = n.raw(ctx, mWrite, step(3), blocks[3])
	wantKind(t, "behind the commit", err, errs.Unavailable)

	// A call that goes away while it waits takes the shard with it.
	h.Blob = blob(2)
	if _, err := n.raw(ctx, mWrite, step(0), blocks[0]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shard is still written", func() bool {
		gone, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		n.raw(gone, mWrite, step(2), blocks[2])
		w, _ := n.handles()
		return w == 0
	})
	eventually(t, "it left something", func() bool { return leftovers(t, l) == 0 })
}

// TestRequestsThatCantBe are refused, and leave nothing.
func TestRequestsThatCantBe(t *testing.T) {
	ctx, c := t.Context(), twofold.NewUUID()
	l := local(t, c)
	n := newNode(t, -1, ServerOptions{}, Options{}, l)
	h := toWire(drivetest.Header(c, blob(1)))
	block := make([]byte, 100)
	huge := *h
	huge.Stripe = 64 << 20
	for name, tt := range map[string]struct {
		m     rpc.Method
		msg   any
		bytes []byte
	}{
		"garbage":            {mWrite, "text", nil},
		"nothing":            {mWrite, nil, nil},
		"no header":          {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Blocks: []uint32{100}}, block},
		"header later":       {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Seq: 1, Header: h, Blocks: []uint32{100}}, block},
		"no handle":          {mWrite, &writeRequest{Drive: l.ID(), Header: h, Blocks: []uint32{100}}, block},
		"bytes without":      {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: h}, block},
		"blocks without":     {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: h, Blocks: []uint32{100, 100}}, block},
		"empty block":        {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: h, Blocks: []uint32{100, 0}}, block},
		"overflowing blocks": {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: h, Blocks: []uint32{1<<32 - 1, 101}}, block},
		"many blocks":        {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: h, Blocks: slices.Repeat([]uint32{1}, maxCallBlocks+1)}, make([]byte, maxCallBlocks+1)},
		"huge blocks":        {mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: &huge, Blocks: []uint32{100}}, block},
		"purpose": {mWrite, &writeRequest{Drive: l.ID(), Header: h, Blocks: []uint32{100},
			Trailer: &wireTrailer{Size: 200, Purpose: make([]byte, 5000)}}, block},
		"no range":    {mRead, &readRequest{Reader: 1}, nil},
		"huge range":  {mRead, &readRequest{Reader: 1, To: 1 << 31}, nil},
		"usage":       {mUsage, 5, nil},
		"unasked for": {mTell, "text", nil},
	} {
		_, err := n.raw(ctx, tt.m, tt.msg, tt.bytes)
		wantKind(t, name, err, errs.Invalid)
	}
	_, err := n.raw(ctx, MethodLast, nil, nil)
	wantKind(t, "unknown method", err, errs.Unsupported)
	_, err = n.link.Call(ctx, &rpc.Call{Method: mUsage, Header: "not sealed"})
	wantKind(t, "no seal", err, errs.Unavailable)
	if w, r := n.handles(); w+r != 0 || leftovers(t, l) != 0 {
		t.Errorf("%d writers, %d readers", w, r)
	}
}

// FuzzServe: whatever a peer that knows the secret sends, the server answers, and serves on.
func FuzzServe(f *testing.F) {
	c := twofold.NewUUID()
	l := local(f, c)
	n := newNode(f, -1, ServerOptions{}, Options{}, l)
	codec := n.Node.codec
	h := drivetest.Header(c, blob(1))
	blocks := drivetest.Blocks(h, 3*drivetest.Stripe, 1)
	seed := func(m rpc.Method, msg any, payload []byte) {
		b, err := codec.Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(m), b, payload)
	}
	seed(mTell, nil, nil)
	seed(mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Header: toWire(h), Blocks: []uint32{uint32(len(blocks[0]))}}, blocks[0])
	seed(mWrite, &writeRequest{Drive: l.ID(), Writer: 1, Seq: 1, Blocks: []uint32{uint32(len(blocks[0]))}}, blocks[0])
	seed(mWrite, &writeRequest{Drive: l.ID(), Header: toWire(h), Blocks: []uint32{5}, Trailer: &wireTrailer{Size: 10}}, blocks[0][:5])
	seed(mAbort, &handleRequest{1}, nil)
	seed(mKeep, &handlesRequest{[]handle{1, 2}}, nil)
	seed(mOpen, &openRequest{Drive: l.ID(), Blob: blob(1), Reader: 2, Small: 1 << 10}, nil)
	seed(mOpen, &openRequest{Drive: l.ID(), Blob: blob(1), Small: 1 << 31}, nil)
	seed(mRead, &readRequest{Reader: 2, Block: 1, From: 5, To: 10}, nil)
	seed(mRead, &readRequest{Reader: 2, Block: -1 << 63, From: 5, To: 10}, nil)
	seed(mClose, &handlesRequest{[]handle{1, 2}}, nil)
	seed(mDelete, &blobRequest{l.ID(), blob(2)}, nil)
	seed(mWalk, &walkRequest{Drive: l.ID(), Walk: 1}, nil)
	seed(mUsage, &driveRequest{l.ID()}, nil)
	seed(mHealing, &healingRequest{l.ID(), false}, nil)
	seed(mFormat, &driveRequest{l.ID()}, nil)
	seed(mBad, &badRequest{l.ID(), blob(2), "why"}, nil)
	if _, err := drivetest.Put(f.Context(), l, drivetest.Header(c, blob(1)), 5*drivetest.Stripe, 1, ""); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, m uint16, body, payload []byte) {
		method := rpc.Method(m)
		s := sealed{Body: body, Sum: sealSum(method, body, payload)}
		call := &rpc.Call{Method: method, Header: &s, Reply: &sealed{}, Into: make([]byte, 1<<20)}
		if len(payload) > 0 {
			call.Payload = [][]byte{payload}
		}
		_, err := n.link.Call(t.Context(), call)
		if errs.Is(err, errs.Other) || n.link.conn.Err() != nil {
			t.Fatalf("%v; the connection: %v", err, n.link.conn.Err())
		}
	})
}

// FuzzAnswers: whatever a node answers is refused, or can be used without harm.
func FuzzAnswers(f *testing.F) {
	codec, err := rpc.NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	h := drivetest.Header(twofold.NewUUID(), blob(1))
	for _, msg := range []any{
		&openAnswer{Header: toWire(h), Trailer: &wireTrailer{Size: 10}, Bytes: 300, All: true},
		&openAnswer{Header: toWire(h), Trailer: &wireTrailer{Size: 1 << 40}, Bytes: 1 << 40},
		&tellAnswer{Drives: []told{{Drive: h.Cluster, State: 1, Usage: &usage{2, 1}}}},
		&writeRequest{Drive: h.Cluster, Header: toWire(h), Blocks: []uint32{5}, Trailer: &wireTrailer{Size: 10}},
	} {
		b, err := codec.Encode(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, bytes.Repeat([]byte{1, 2, 3, 4, 5}, 1))
	}
	f.Fuzz(func(t *testing.T, body, payload []byte) {
		var a openAnswer
		if codec.Decode(body, &a) == nil {
			if i, err := a.info(h.Blob, h.Cluster, len(payload)); err == nil {
				r := &reader{info: i}
				if a.All {
					r.all = payload
					var got int
					for at := range drive.Blocks(i.Header, i.Trailer.Size) {
						got += len(r.kept(at))
					}
					if got != len(payload) {
						t.Fatalf("%d bytes of %d", got, len(payload))
					}
				}
				if n := r.blockLen(0); n < 0 || n > maxBlock {
					t.Fatalf("a block of %d bytes", n)
				}
			}
		}
		var w writeRequest
		if codec.Decode(body, &w) == nil && w.check(len(payload)) == nil {
			rest := payload
			for _, n := range w.Blocks {
				rest = rest[n:]
			}
			if len(rest) != 0 {
				t.Fatalf("%d bytes behind the blocks", len(rest))
			}
		}
		var all tellAnswer
		if codec.Decode(body, &all) == nil {
			_ = all.check()
		}
		ids, err := parsePage(nil, payload, blob(0), false)
		if err == nil && !slices.IsSortedFunc(ids, func(a, b twofold.BlobID) int { return bytes.Compare(a[:], b[:]) }) {
			t.Fatal("ids that do not ascend")
		}
	})
}
