package rpc

import (
	"context"
	"errors"

	"github.com/fxamacker/cbor/v2"

	"twofold/internal/errs"
)

// Codec encodes headers. The decoder refuses what could cost more than the bytes
// that carry it: indefinite lengths, tags, deep nesting, duplicate keys.
type Codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// NewCodec makes a codec; it is safe for concurrent use.
func NewCodec() (*Codec, error) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, errs.E("rpc.NewCodec", errs.Other, err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  16,
		MaxArrayElements: 1 << 22,
		MaxMapPairs:      1 << 16,
		// File names and link targets are bytes, not always UTF-8.
		UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		return nil, errs.E("rpc.NewCodec", errs.Other, err)
	}
	return &Codec{enc, dec}, nil
}

// Encode returns v's CBOR; nil is no bytes.
func (c *Codec) Encode(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, errs.E("rpc.Encode", errs.Invalid, err)
	}
	return b, nil
}

// Decode reads exactly one item into v; errs.Invalid otherwise.
func (c *Codec) Decode(b []byte, v any) error {
	if err := c.dec.Unmarshal(b, v); err != nil {
		return errs.E("rpc.Decode", errs.Invalid, err)
	}
	return nil
}

// wireError is an error as it crosses a connection: the causes become words.
type wireError struct {
	Kind errs.Kind `cbor:"1,keyasint"`
	Op   string    `cbor:"2,keyasint,omitempty"`
	Msg  string    `cbor:"3,keyasint,omitempty"`
}

const maxErrorText = 4 << 10 // bytes

func encodeError(err error) wireError {
	w := wireError{Kind: errs.KindOf(err)}
	var e *errs.Error
	if !errors.As(err, &e) {
		w.Msg = err.Error()
	} else {
		w.Op, w.Msg = e.Op, e.Msg
		if e.Err != nil && !errors.Is(e.Err, context.Canceled) {
			if w.Msg != "" {
				w.Msg += ": "
			}
			w.Msg += e.Err.Error()
		}
	}
	w.Op, w.Msg = clip(w.Op), clip(w.Msg)
	return w
}

func clip(s string) string { return s[:min(len(s), maxErrorText)] }

// err is the error on the side that called.
func (w wireError) err() error { return &errs.Error{Op: w.Op, Kind: w.Kind, Msg: w.Msg} }
