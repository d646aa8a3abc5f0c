package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
)

// maxKeys bounds the cache of signing keys; beyond it the cache starts anew.
const maxKeys = 1024

// keyCache keeps the signing keys: one per access key and day is in use, and each
// takes four HMACs to make.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyID]*signingKey // guarded by mu
}

type keyID struct{ secret, date, region string }

// signingKey makes signatures. Safe for concurrent use.
type signingKey struct {
	macs sync.Pool // of *mac
}

type mac struct {
	h   hash.Hash
	sum [sha256.Size]byte
}

// get returns the key of (secret, date, region) for the service s3.
func (c *keyCache) get(secret, date, region string) *signingKey {
	id := keyID{secret, date, region}
	c.mu.RLock()
	k := c.keys[id]
	c.mu.RUnlock()
	if k != nil {
		return k
	}
	key := hmacSHA256([]byte("AWS4"+secret), date)
	key = hmacSHA256(key, region)
	key = hmacSHA256(key, service)
	key = hmacSHA256(key, terminator)
	k = &signingKey{macs: sync.Pool{New: func() any { return &mac{h: hmac.New(sha256.New, key)} }}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = make(map[keyID]*signingKey)
	}
	c.keys[id] = k
	return k
}

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// sign writes the hexadecimal signature of msg to out.
func (k *signingKey) sign(out *[64]byte, msg []byte) {
	m := k.macs.Get().(*mac)
	m.h.Reset()
	m.h.Write(msg)
	hex.Encode(out[:], m.h.Sum(m.sum[:0]))
	k.macs.Put(m)
}
