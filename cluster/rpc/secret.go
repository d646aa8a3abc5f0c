package rpc

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
)

// Secret is the key both ends of a connection share. It prints as a placeholder.
type Secret [32]byte

// NewSecret derives it from the root credentials (HKDF, RFC 5869). Weak
// credentials make a weak secret: who can pose as a server can try passwords on
// the proof a client sends it.
func NewSecret(user, password string) (Secret, error) {
	// The length in front keeps ("ab","c") and ("a","bc") apart.
	ikm := binary.BigEndian.AppendUint32(nil, uint32(len(user)))
	ikm = append(append(ikm, user...), password...)
	b, err := hkdf.Key(sha256.New, ikm, []byte("twofold rpc"), "handshake 1", len(Secret{}))
	if err != nil { // only in a FIPS build that refuses short keys
		return Secret{}, err
	}
	return Secret(b), nil
}

// String hides the secret from logs.
func (Secret) String() string { return "(secret)" }

// GoString hides it from %#v.
func (Secret) GoString() string { return "rpc.Secret{...}" }

// LogValue hides it from log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }
