package rpc

import (
	"encoding/binary"

	"twofold/internal/errs"
)

// frameType is what a frame is. Numbers are on the wire.
type frameType uint8

const (
	frameRequest frameType = 1
	frameAnswer  frameType = 2 // header: the answer
	frameError   frameType = 3 // header: a wireError
	frameCancel  frameType = 4 // the caller of request id went away; it is answered all the same
	framePing    frameType = 5
	framePong    frameType = 6
)

// flagUrgent marks a request that has an urgent slot.
const flagUrgent = 1

// headLen is the fixed part of a frame, the length field included.
const headLen = 20

// head is a frame's fixed part.
type head struct {
	typ     frameType
	urgent  bool
	method  Method
	id      uint64
	header  int // bytes
	payload int // bytes
}

// put writes h into b.
func (h head) put(b *[headLen]byte) {
	binary.BigEndian.PutUint32(b[0:], uint32(headLen-4+h.header+h.payload))
	b[4] = byte(h.typ)
	b[5] = 0
	if h.urgent {
		b[5] = flagUrgent
	}
	binary.BigEndian.PutUint16(b[6:], uint16(h.method))
	binary.BigEndian.PutUint64(b[8:], h.id)
	binary.BigEndian.PutUint32(b[16:], uint32(h.header))
}

// parseHead reads a frame's fixed part and checks all of it; payload is the most
// payload that this end takes with a request.
func parseHead(b *[headLen]byte, payload int) (head, error) {
	length := binary.BigEndian.Uint32(b[0:])
	hdr := binary.BigEndian.Uint32(b[16:])
	h := head{
		typ:    frameType(b[4]),
		urgent: b[5]&flagUrgent != 0,
		method: Method(binary.BigEndian.Uint16(b[6:])),
		id:     binary.BigEndian.Uint64(b[8:]),
	}
	if length < headLen-4 || hdr > length-(headLen-4) {
		return h, badFrame("frame of %d bytes with a header of %d", length, hdr)
	}
	if hdr > MaxHeader || length-(headLen-4)-hdr > maxPayload {
		return h, badFrame("frame too large: %d bytes, header %d", length, hdr)
	}
	h.header, h.payload = int(hdr), int(length-(headLen-4)-hdr)
	if b[5]&^flagUrgent != 0 || h.urgent && h.typ != frameRequest {
		return h, badFrame("flags %#x on a frame of type %d", b[5], h.typ)
	}
	switch h.typ {
	case frameRequest:
		if h.payload > payload {
			return h, badFrame("request payload of %d bytes, %d allowed", h.payload, payload)
		}
	case frameAnswer:
	case frameError:
		if h.payload != 0 {
			return h, badFrame("error with a payload")
		}
	case frameCancel, framePing, framePong:
		if h.header != 0 || h.payload != 0 {
			return h, badFrame("control frame of type %d with content", h.typ)
		}
	default:
		return h, badFrame("unknown frame type %d", h.typ)
	}
	if h.typ != frameRequest && h.method != 0 {
		return h, badFrame("method on a frame of type %d", h.typ)
	}
	return h, nil
}

// badFrame is a violation of the protocol: the connection does not survive it.
func badFrame(format string, args ...any) error {
	return errs.Newf("rpc.frame", errs.Invalid, "protocol violation: "+format, args...)
}
