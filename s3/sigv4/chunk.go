package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// ChunkVerifier verifies the chain of signatures in an aws-chunked body. Each one
// covers the one before it; the first covers the request's. Not safe for
// concurrent use.
type ChunkVerifier struct {
	key       *signingKey
	timestamp string
	scope     string
	prev      [64]byte
	buf       []byte
}

// Chunk reports whether sig is the hexadecimal signature of the next chunk, whose
// data has the given SHA-256.
func (c *ChunkVerifier) Chunk(sig []byte, data [sha256.Size]byte) bool {
	b := c.begin(algorithm + "-PAYLOAD")
	b = append(b, emptySHA256+"\n"...)
	return c.finish(b, sig, data)
}

// Trailer reports whether sig is the signature of the trailer, which in its
// canonical form has the given SHA-256.
func (c *ChunkVerifier) Trailer(sig []byte, trailer [sha256.Size]byte) bool {
	return c.finish(c.begin(algorithm+"-TRAILER"), sig, trailer)
}

func (c *ChunkVerifier) begin(name string) []byte {
	b := append(c.buf[:0], name...)
	b = append(b, '\n')
	b = append(b, c.timestamp...)
	b = append(b, '\n')
	b = append(b, c.scope...)
	b = append(b, '\n')
	b = append(b, c.prev[:]...)
	return append(b, '\n')
}

func (c *ChunkVerifier) finish(b, sig []byte, sum [sha256.Size]byte) bool {
	c.buf = hex.AppendEncode(b, sum[:])
	c.key.sign(&c.prev, c.buf)
	return subtle.ConstantTimeCompare(c.prev[:], sig) == 1
}
