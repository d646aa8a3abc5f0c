package rpc

import (
	"bytes"
	"io"
	"testing"
)

func FuzzParseHead(f *testing.F) {
	f.Add(rawFrame(head{typ: frameRequest, method: 3, id: 9, urgent: true, header: 10, payload: 100}, nil))
	f.Add(bytes.Repeat([]byte{255}, headLen))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < headLen {
			return
		}
		b := [headLen]byte(in)
		h, err := parseHead(&b, 1<<20)
		if err != nil {
			return
		}
		if h.header < 0 || h.header > MaxHeader || h.payload < 0 || h.payload > maxPayload {
			t.Fatalf("accepted %+v", h)
		}
		var out [headLen]byte
		if h.put(&out); out != b {
			t.Fatalf("%x reads as %+v, which is %x", b, h, out)
		}
	})
}

func FuzzParseHello(f *testing.F) {
	h := newHello(RoleMount, Limits{}.withDefaults()).encode()
	f.Add(h[:])
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < helloLen {
			return
		}
		b := [helloLen]byte(in)
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if h.limits.check() != nil || h.min > h.max {
			t.Fatalf("accepted %+v", h)
		}
		if h.encode() != b {
			t.Fatalf("%x reads as %+v", b, h)
		}
	})
}

// script is a peer that says what is in it and hears nothing.
type script struct {
	io.Reader
	n int // bytes that were written to it
}

func (s *script) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }

// FuzzHandshakeServer: no bytes from a stranger are ever enough.
func FuzzHandshakeServer(f *testing.F) {
	h := newHello(RoleMount, Limits{}.withDefaults()).encode()
	f.Add(append(h[:], make([]byte, proofLen)...))
	s := Secret{1}
	f.Fuzz(func(t *testing.T, in []byte) {
		rw := &script{Reader: bytes.NewReader(in)}
		if _, err := handshakeServer(rw, s, newHello(RoleNode, Limits{}.withDefaults())); err == nil {
			t.Fatal("let in")
		}
		if rw.n > helloLen+statusLen {
			t.Fatalf("said %d bytes", rw.n)
		}
	})
}

// FuzzFrames feeds a connection whatever a peer can say after its handshake.
func FuzzFrames(f *testing.F) {
	codec, err := NewCodec()
	if err != nil {
		f.Fatal(err)
	}
	header, err := codec.Encode(text{"x"})
	if err != nil {
		f.Fatal(err)
	}
	req := rawFrame(head{typ: frameRequest, method: mEcho, id: 1, header: len(header), payload: 3}, append(bytes.Clone(header), 1, 2, 3))
	f.Add(req)
	f.Add(append(bytes.Clone(req), rawFrame(head{typ: frameCancel, id: 1}, nil)...))
	f.Add(append(rawFrame(head{typ: framePing}, nil), req...))
	f.Add(rawFrame(head{typ: frameError, id: 1, header: 1}, []byte{0xa0}))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, peer := pipeConn(t, &testHandler{}, testConfig(t, RoleNode))
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		_, _ = peer.Write(in) // fails where the connection was given up
		_ = peer.Close()
		c.Wait()
	})
}
