package metadata

import (
	"fmt"
	"math"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"twofold"
	"twofold/internal/errs"
)

// RecordVersion is the first byte of every record in the state. A record of
// another version is refused, never guessed at.
const RecordVersion = 1

// MaxCommandLen is the most bytes of an encoded command. It leaves room for the
// inline data of the largest command (fsm bounds it more tightly) and for what
// raft and Badger take at once.
const MaxCommandLen = 8 << 20

// canonical encodes deterministically (RFC 8949, 4.2.1): replicas that apply the
// same log have the same bytes. Both modes are immutable and safe for concurrent use.
var (
	canonical = must(cbor.CoreDetEncOptions().EncMode())
	// strict refuses what the encoder never writes. Strings that are not UTF-8 are
	// let through: targets of symlinks and names in Go strings are bytes.
	strict = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8DecodeInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  64 << 10,
		MaxMapPairs:       16 << 10,
	}.DecMode())
)

func must[M any](m M, err error) M {
	if err != nil {
		panic(err) // the options above are constants: a test run finds it
	}
	return m
}

// body returns a new, empty body of op, or nil for an operation that this version
// does not know.
func body(op Op) any {
	switch op {
	case OpBeginSession:
		return new(BeginSession)
	case OpEndSession:
		return new(EndSession)
	case OpCreateBucket:
		return new(CreateBucket)
	case OpDeleteBucket:
		return new(DeleteBucket)
	case OpPutObject:
		return new(PutObject)
	case OpDeleteObject:
		return new(DeleteObject)
	case OpCopyObject:
		return new(CopyObject)
	case OpCreateUpload:
		return new(CreateUpload)
	case OpPutPart:
		return new(PutPart)
	case OpCompleteUpload:
		return new(CompleteUpload)
	case OpAbortUpload:
		return new(AbortUpload)
	case OpCreate:
		return new(Create)
	case OpLink:
		return new(Link)
	case OpUnlink:
		return new(Unlink)
	case OpRmdir:
		return new(Rmdir)
	case OpRename:
		return new(Rename)
	case OpSetAttr:
		return new(SetAttr)
	case OpWrite:
		return new(Write)
	case OpSetXattrs:
		return new(SetXattrs)
	case OpFreeInode:
		return new(FreeInode)
	case OpTrashDone:
		return new(TrashDone)
	case OpReplaceExtents:
		return new(ReplaceExtents)
	case OpCompacted:
		return new(Compacted)
	case OpSetConfig:
		return new(SetConfig)
	case OpNop:
		return new(Nop)
	case OpForgetSession:
		return new(ForgetSession)
	case OpTmpfile:
		return new(Tmpfile)
	case OpCopyRange:
		return new(CopyRange)
	case OpSetACL:
		return new(SetACL)
	case OpCountUsage:
		return new(CountUsage)
	case OpSetQuota:
		return new(SetQuota)
	case OpReserve:
		return new(Reserve)
	case OpReserveInos:
		return new(ReserveInos)
	case OpBatch:
		return new(Batch)
	case OpFreeInodes:
		return new(FreeInodes)
	case OpRevoke:
		return new(Revoke)
	}
	return nil
}

// Encode encodes a command: one version byte, then a CBOR array of its fields. One with
// a guard has a version of its own, and the guard before the body.
// Body is the struct of its Op or a pointer to one (nil: the empty body).
// errs.Invalid where it is not, errs.TooLarge over MaxCommandLen.
func Encode(c *Command) ([]byte, error) {
	const op = "metadata.Encode"
	want := body(c.Op)
	if want == nil {
		return nil, errs.Newf(op, errs.Invalid, "unknown operation %d", c.Op)
	}
	b := c.Body
	if b == nil {
		b = want
	}
	if t, p := reflect.TypeOf(b), reflect.TypeOf(want); t != p && t != p.Elem() {
		return nil, errs.Newf(op, errs.Invalid, "operation %d with a body of type %v", c.Op, t)
	}
	var raw []byte
	size := 0
	batch := batchOf(b)
	if batch != nil {
		size = batch.size()
	} else {
		var err error
		if raw, err = canonical.Marshal(b); err != nil {
			return nil, errs.E(op, errs.Invalid, err)
		}
		size = len(raw)
	}
	out := append(make([]byte, 0, size+64+64*len(c.Guard)), CommandVersion, majorArray<<5|7)
	if c.Guard != nil {
		out[0], out[1] = guardedVersion, majorArray<<5|8
	}
	out = appendHead(out, majorUint, uint64(c.Op))
	out = appendHead(out, majorUint, uint64(c.Session))
	out = appendHead(out, majorUint, c.Seq)
	out = appendHead(out, majorUint, c.Acked)
	out = appendHead(out, majorUint, uint64(c.Writer))
	out = appendInt(out, int64(c.Now))
	if c.Guard != nil {
		out = appendTargets(out, c.Guard)
	}
	out = append(out, raw...)
	if batch != nil {
		var err error
		if out, err = appendBatch(out, batch); err != nil {
			return nil, err
		}
	}
	if len(out) > MaxCommandLen {
		return nil, errs.Newf(op, errs.TooLarge, "command of %d bytes", len(out))
	}
	return out, nil
}

// Decode decodes what Encode wrote; Body is a pointer to the struct of Op. A
// version, an operation or a field that is not known is errs.Unsupported or
// errs.Corrupt: whoever applies commands must stop there. A Batch's inline data shares the
// memory of b.
func Decode(b []byte) (*Command, error) {
	const op = "metadata.Decode"
	switch {
	case len(b) == 0:
		return nil, errs.Newf(op, errs.Corrupt, "empty command")
	case len(b) > MaxCommandLen:
		return nil, errs.Newf(op, errs.TooLarge, "command of %d bytes", len(b))
	case b[0] != CommandVersion && b[0] != guardedVersion:
		return nil, errs.Newf(op, errs.Unsupported, "command of version %d, this program knows up to %d", b[0], guardedVersion)
	}
	guarded := b[0] == guardedVersion
	r := cborReader{b: b[1:]}
	if n := r.want(majorArray); !guarded && n != 7 || guarded && n != 8 {
		r.fail(errForm)
	}
	c := &Command{Op: Op(r.uint(math.MaxUint16)), Session: twofold.SessionID(r.uint(math.MaxUint64)), Seq: r.uint(math.MaxUint64),
		Acked: r.uint(math.MaxUint64), Writer: twofold.SessionID(r.uint(math.MaxUint64)), Now: twofold.Time(r.int())}
	if guarded {
		c.Guard = r.targets()
	}
	if r.err != nil {
		return nil, errs.E(op, errs.Corrupt, r.err)
	}
	if c.Body = body(c.Op); c.Body == nil {
		return nil, errs.Newf(op, errs.Unsupported, "unknown operation %d: written by a newer version?", c.Op)
	}
	if batch := batchOf(c.Body); batch != nil {
		if r.batch(batch); r.end() != nil {
			return nil, errs.E(op, errs.Corrupt, fmt.Errorf("operation %d: %w", c.Op, r.err))
		}
		return c, nil
	}
	if err := strict.Unmarshal(r.b, c.Body); err != nil {
		return nil, errs.E(op, errs.Corrupt, fmt.Errorf("operation %d: %w", c.Op, err))
	}
	return c, nil
}

// batchOf is a body, or what it points to, as a batch; nil where it is none.
func batchOf(body any) *Batch {
	switch b := body.(type) {
	case *Batch:
		return b
	case Batch:
		return &b
	}
	return nil
}

func appendTargets(b []byte, ts []Target) []byte {
	b = appendHead(b, majorArray, uint64(len(ts)))
	for _, t := range ts {
		b = appendHead(append(b, majorArray<<5|2), majorUint, uint64(t.Ino))
		b = appendHead(b, majorArray, uint64(len(t.Names)))
		for _, n := range t.Names {
			b = appendText(b, n)
		}
	}
	return b
}

// targets is never nil.
func (r *cborReader) targets() []Target {
	ts := make([]Target, r.count(majorArray, 3))
	for i := range ts {
		if r.want(majorArray) != 2 {
			r.fail(errForm)
		}
		ts[i].Ino = twofold.Ino(r.uint(math.MaxUint64))
		if n := r.count(majorArray, 1); n > 0 {
			ts[i].Names = make([]string, n)
		}
		for k := range ts[i].Names {
			ts[i].Names[k] = r.text()
		}
	}
	return ts
}

func corrupt(what string, err error) error {
	return errs.E("metadata.decode", errs.Corrupt, fmt.Errorf("%s: %w", what, err))
}

// record checks the version byte and returns a reader of the rest.
func record(b []byte, what string) (cborReader, error) {
	if len(b) == 0 {
		return cborReader{}, corrupt(what, errShort)
	}
	if b[0] != RecordVersion {
		return cborReader{}, errs.Newf("metadata.decode", errs.Unsupported,
			"%s record of version %d, this program knows %d", what, b[0], RecordVersion)
	}
	return cborReader{b: b[1:]}, nil
}

func encodeRecord(v any) ([]byte, error) {
	b, err := canonical.Marshal(v)
	if err != nil {
		return nil, errs.E("metadata.encode", errs.Invalid, err)
	}
	return append([]byte{RecordVersion}, b...), nil
}

func decodeRecord[T any](b []byte, what string) (*T, error) {
	r, err := record(b, what)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := strict.Unmarshal(r.b, v); err != nil {
		return nil, corrupt(what, err)
	}
	return v, nil
}

// EncodeBucket encodes the record; so do the others below.
func EncodeBucket(v *Bucket) ([]byte, error) { return encodeRecord(v) }

// DecodeBucket decodes the record, keeping nothing of b; so do the others below.
func DecodeBucket(b []byte) (*Bucket, error) { return decodeRecord[Bucket](b, "bucket") }

func EncodeUpload(v *Upload) ([]byte, error) { return encodeRecord(v) }

func DecodeUpload(b []byte) (*Upload, error) { return decodeRecord[Upload](b, "upload") }

func EncodePart(v *Part) ([]byte, error) { return encodeRecord(v) }

func DecodePart(b []byte) (*Part, error) { return decodeRecord[Part](b, "part") }

func EncodeSession(v *Session) ([]byte, error) { return encodeRecord(v) }

func DecodeSession(b []byte) (*Session, error) { return decodeRecord[Session](b, "session") }

func EncodeTrashBlob(v *TrashBlob) ([]byte, error) { return encodeRecord(v) }

func DecodeTrashBlob(b []byte) (*TrashBlob, error) { return decodeRecord[TrashBlob](b, "trash blob") }
