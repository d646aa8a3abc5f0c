package rpc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"twofold/internal/errs"
)

// Versions of the frames and of what the methods mean that this build speaks. The
// highest one that both ends know is used.
const (
	MinVersion = 1
	MaxVersion = 1
)

// Role is what an end of a connection is.
type Role uint8

const (
	RoleMount Role = 1 // a mount process
	RoleNode  Role = 2 // a server process
	RoleAdmin Role = 3 // an operator's command
)

func (r Role) known() bool { return r >= RoleMount && r <= RoleAdmin }

// A hello, 64 bytes:
//
//	 0  magic "2frp"          12  calls       u32  concurrent requests I serve
//	 4  layout     u8 = 1     16  urgent      u32  and urgent ones beside them
//	 5  role       u8         20  max payload u32  bytes of a request's payload
//	 6  min version u16       24  max bytes   u64  of all payloads in service
//	 8  max version u16       32  nonce       32 random bytes
//	10  zero       u16
const helloLen = 64

const (
	proofLen  = sha256.Size
	statusLen = 1 + proofLen

	statusOK     = 0
	statusDenied = 1
)

type hello struct {
	role     Role
	min, max uint16
	limits   Limits
	nonce    [32]byte
}

func newHello(role Role, l Limits) hello {
	h := hello{role: role, min: MinVersion, max: MaxVersion, limits: l}
	rand.Read(h.nonce[:]) // never fails, see crypto/rand
	return h
}

func (h hello) encode() [helloLen]byte {
	var b [helloLen]byte
	copy(b[:], "2frp")
	b[4] = 1
	b[5] = byte(h.role)
	binary.BigEndian.PutUint16(b[6:], h.min)
	binary.BigEndian.PutUint16(b[8:], h.max)
	binary.BigEndian.PutUint32(b[12:], uint32(h.limits.Calls))
	binary.BigEndian.PutUint32(b[16:], uint32(h.limits.Urgent))
	binary.BigEndian.PutUint32(b[20:], uint32(h.limits.Payload))
	binary.BigEndian.PutUint64(b[24:], uint64(h.limits.Bytes))
	copy(b[32:], h.nonce[:])
	return b
}

// parseHello reads a peer's hello. Its numbers are believed as far as they limit
// what we send, so absurd ones are refused rather than allocated for.
func parseHello(b [helloLen]byte) (hello, error) {
	const op = "rpc.parseHello"
	h := hello{
		role: Role(b[5]),
		min:  binary.BigEndian.Uint16(b[6:]),
		max:  binary.BigEndian.Uint16(b[8:]),
		limits: Limits{
			Calls:   int(binary.BigEndian.Uint32(b[12:])),
			Urgent:  int(binary.BigEndian.Uint32(b[16:])),
			Payload: int(binary.BigEndian.Uint32(b[20:])),
			Bytes:   int64(binary.BigEndian.Uint64(b[24:])),
		},
		nonce: [32]byte(b[32:]),
	}
	switch {
	case string(b[:4]) != "2frp" || b[4] != 1:
		return h, errs.Newf(op, errs.Unsupported, "the peer does not speak this protocol")
	case !h.role.known():
		return h, errs.Newf(op, errs.Invalid, "the peer has unknown role %d", h.role)
	case h.min == 0 || h.min > h.max:
		return h, errs.Newf(op, errs.Invalid, "the peer offers versions %d to %d", h.min, h.max)
	case b[10] != 0 || b[11] != 0:
		return h, errs.Newf(op, errs.Invalid, "the peer's hello has reserved bits set")
	}
	return h, h.limits.check()
}

// agree returns the highest version that both know.
func agree(mine, peer hello) (int, error) {
	v := min(mine.max, peer.max)
	if v < max(mine.min, peer.min) {
		return 0, errs.Newf("rpc.handshake", errs.Unsupported,
			"no common protocol version: here %d to %d, the peer %d to %d", mine.min, mine.max, peer.min, peer.max)
	}
	return int(v), nil
}

func proof(s Secret, label string, client, server [helloLen]byte) []byte {
	m := hmac.New(sha256.New, s[:])
	m.Write([]byte(label))
	m.Write(client[:])
	m.Write(server[:])
	return m.Sum(nil)
}

const (
	labelClient = "twofold rpc 1 client"
	labelServer = "twofold rpc 1 server"
)

// agreed is what a handshake settles.
type agreed struct {
	version int
	peer    hello
}

// handshakeClient runs the client's side. The caller sets deadlines.
// errs.Access: the secrets differ. errs.Unsupported: no common version.
func handshakeClient(rw io.ReadWriter, s Secret, mine hello) (agreed, error) {
	const op = "rpc.handshake"
	mineB := mine.encode()
	if _, err := rw.Write(mineB[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	var peerB [helloLen]byte
	if _, err := io.ReadFull(rw, peerB[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	peer, err := parseHello(peerB)
	if err != nil {
		return agreed{}, err
	}
	v, err := agree(mine, peer)
	if err != nil {
		return agreed{}, err
	}
	if _, err := rw.Write(proof(s, labelClient, mineB, peerB)); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	var st [statusLen]byte
	if _, err := io.ReadFull(rw, st[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	if st[0] != statusOK {
		return agreed{}, errs.Newf(op, errs.Access, "the server has other root credentials")
	}
	if !hmac.Equal(st[1:], proof(s, labelServer, mineB, peerB)) {
		return agreed{}, errs.Newf(op, errs.Access, "the server did not prove that it has the root credentials")
	}
	return agreed{v, peer}, nil
}

// handshakeServer runs the server's side.
func handshakeServer(rw io.ReadWriter, s Secret, mine hello) (agreed, error) {
	const op = "rpc.handshake"
	var peerB [helloLen]byte
	if _, err := io.ReadFull(rw, peerB[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	peer, err := parseHello(peerB)
	if err != nil {
		return agreed{}, err
	}
	mineB := mine.encode()
	if _, err := rw.Write(mineB[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	v, err := agree(mine, peer)
	if err != nil { // the client sees it from our hello
		return agreed{}, err
	}
	var p [proofLen]byte
	if _, err := io.ReadFull(rw, p[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	var st [statusLen]byte
	if !hmac.Equal(p[:], proof(s, labelClient, peerB, mineB)) {
		st[0] = statusDenied
		_, _ = rw.Write(st[:]) // a courtesy: the refusal stands whether it arrives or not
		return agreed{}, errs.Newf(op, errs.Access, "the peer has other root credentials")
	}
	copy(st[1:], proof(s, labelServer, peerB, mineB))
	if _, err := rw.Write(st[:]); err != nil {
		return agreed{}, errs.E(op, errs.Unavailable, err)
	}
	return agreed{v, peer}, nil
}
