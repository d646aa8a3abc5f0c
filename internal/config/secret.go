package config

import (
	"encoding"
	"fmt"
	"log/slog"
)

// Secret is a string that does not show itself: not in a log, nor under any verb of
// fmt, nor in JSON or another text encoding. Reveal is the one way to its value.
type Secret string

const redacted = "(secret)"

var (
	_ fmt.Formatter          = Secret("")
	_ fmt.Stringer           = Secret("")
	_ slog.LogValuer         = Secret("")
	_ encoding.TextMarshaler = Secret("")
)

// Reveal returns the value, for computing signatures.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer; like all the others here it says only that there is a secret.
func (s Secret) String() string { return redacted }

// Format implements fmt.Formatter, so that %x and %#v do not show it either.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalBinary implements encoding.BinaryMarshaler, for gob and CBOR.
func (s Secret) MarshalBinary() ([]byte, error) { return []byte(redacted), nil }
