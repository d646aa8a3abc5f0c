package s3

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"

	"twofold/metadata"
	"twofold/s3/checksum"
	"twofold/s3/chunked"
	"twofold/s3/s3err"
	"twofold/s3/sigv4"
)

// hashes are a body's, kept in a pool.
type hashes struct {
	md5, sha hash.Hash
	buf      []byte // for an aws-chunked body; nil until the first one
}

func newHashes() *hashes { return &hashes{md5: md5.New(), sha: sha256.New()} }

// body is a request's content on its way to the volume. Read yields exactly size
// bytes, and io.EOF only when everything that was announced has been verified:
// length, signatures, Content-MD5, checksum. Not safe for concurrent use.
type body struct {
	src     io.Reader
	chunks  *chunked.Reader // src, where it is aws-chunked
	size    int64
	left    int64
	hashes  *hashes
	sum5    hash.Hash         // the MD5: hashes.md5, or lane
	lane    *laneHasher       // nil: none
	many    *md5Hashes        // where the body is large: what counts it
	signed  bool              // hash is the content's signed SHA-256
	hash    [sha256.Size]byte // where signed
	md5     []byte            // Content-MD5; nil: none
	algo    checksum.Algorithm
	sum     hash.Hash // of algo; nil: none
	want    string    // the announced checksum, base64; empty: none
	trailer bool      // the checksum comes in the trailer
	result  Sum
	err     error // sticky; io.EOF is the good end
}

var _ io.Reader = (*body)(nil)

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if n > 0 {
		if b.left -= int64(n); b.left < 0 {
			b.err = s3err.Msg(s3err.IncompleteBody, "The request body has more bytes than were announced.")
			return 0, b.err
		}
		b.sum5.Write(p[:n])
		if b.signed {
			b.hashes.sha.Write(p[:n])
		}
		if b.sum != nil {
			b.sum.Write(p[:n])
		}
	}
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		b.err = err
	case b.left > 0:
		b.err = s3err.New(s3err.IncompleteBody)
	default:
		if b.err = b.verify(); b.err == nil {
			b.err = io.EOF
		}
	}
	if n > 0 {
		return n, nil // the error is said next time
	}
	return 0, b.err
}

// finish is what the volume calls behind the last byte: it returns the sums, or
// what was wrong.
func (b *body) finish() (Sum, error) {
	for b.err == nil {
		var one [1]byte
		if n, _ := b.Read(one[:]); n > 0 {
			return Sum{}, s3err.Msg(s3err.InternalError, "The content was not read to its end.")
		}
	}
	if b.err != io.EOF {
		return Sum{}, b.err
	}
	return b.result, nil
}

// verify compares everything that was announced with what came.
func (b *body) verify() error {
	var room [sha256.Size]byte
	if b.signed && subtle.ConstantTimeCompare(b.hashes.sha.Sum(room[:0]), b.hash[:]) != 1 {
		return s3err.Msg(s3err.XAmzContentSHA256Mismatch, "",
			s3err.Field{Name: "ClientComputedContentSHA256", Value: hex.EncodeToString(b.hash[:])},
			s3err.Field{Name: "S3ComputedContentSHA256", Value: hex.EncodeToString(b.hashes.sha.Sum(nil))})
	}
	sum := b.sum5.Sum(room[:0])
	if b.md5 != nil && string(sum) != string(b.md5) {
		return s3err.Msg(s3err.BadDigest, "",
			s3err.Field{Name: "ExpectedDigest", Value: base64.StdEncoding.EncodeToString(b.md5)},
			s3err.Field{Name: "CalculatedDigest", Value: base64.StdEncoding.EncodeToString(sum)})
	}
	b.result.ETag = hex.EncodeToString(sum)
	if b.sum == nil {
		return nil
	}
	value := base64.StdEncoding.EncodeToString(b.sum.Sum(nil))
	if b.trailer {
		if err := b.readTrailer(); err != nil {
			return err
		}
	}
	if b.want != "" && b.want != value {
		return badChecksum(b.algo)
	}
	b.result.Checksum = &metadata.Checksum{Algorithm: string(b.algo), Value: value, Type: checksum.FullObject}
	return nil
}

func badChecksum(a checksum.Algorithm) error {
	return s3err.Msg(s3err.BadDigest, "The "+string(a)+" you specified did not match the calculated checksum.")
}

// readTrailer takes the announced checksum from the trailer.
func (b *body) readTrailer() error {
	name := strings.ToLower(b.algo.Header())
	for _, t := range b.chunks.Trailers() {
		if t.Name != name {
			return s3err.New(s3err.MalformedTrailerError)
		}
		if !b.algo.ValidValue(t.Value) {
			return invalidChecksum(name)
		}
		b.want = t.Value
	}
	if b.want == "" {
		return s3err.New(s3err.MalformedTrailerError)
	}
	return nil
}

func invalidChecksum(header string) error {
	return s3err.Msg(s3err.InvalidRequest, "Value for "+header+" header is invalid.")
}

// openBody prepares to read the request's content of at most limit bytes. The
// caller releases it.
func (rq *request) openBody(limit int64) (*body, error) {
	size, err := rq.contentLength()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, s3err.Msg(s3err.EntityTooLarge, "",
			s3err.Field{Name: "ProposedSize", Value: itoa(size)}, s3err.Field{Name: "MaxSizeAllowed", Value: itoa(limit)})
	}
	b := &body{size: size, left: size, signed: rq.auth.Payload == sigv4.PayloadHash, hash: rq.auth.Hash}
	if v, ok := rq.r.Header["Content-Md5"]; ok {
		sum, err := base64.StdEncoding.DecodeString(v[0])
		if err != nil || len(sum) != md5.Size {
			return nil, s3err.Msg(s3err.InvalidDigest, "", s3err.Field{Name: "Content-MD5", Value: v[0]})
		}
		b.md5 = sum
	}
	if err := b.expectChecksum(rq.r.Header, rq.hasTrailer()); err != nil {
		return nil, err
	}
	b.hashes = rq.hashes.Get().(*hashes)
	b.hashes.sha.Reset()
	b.startMD5(rq.md5)
	rq.paced = &pacedReader{src: rq.r.Body, rc: http.NewResponseController(rq.w), idle: rq.idle}
	b.src = rq.paced
	if rq.auth.Payload >= sigv4.PayloadChunks {
		if b.hashes.buf == nil {
			b.hashes.buf = make([]byte, chunked.BufferSize)
		}
		cfg := chunked.Config{Length: size, Trailer: rq.hasTrailer(), Buffer: b.hashes.buf}
		if rq.auth.Chunks != nil {
			cfg.Verifier = rq.auth.Chunks
		}
		b.chunks = chunked.NewReader(b.src, cfg)
		b.src = b.chunks
	}
	return b, nil
}

// release gives the hashes back. Nobody may read b any more.
func (rq *request) release(b *body) {
	if b.err == nil {
		b.err = io.ErrClosedPipe
	}
	b.endMD5()
	rq.hashes.Put(b.hashes)
	b.hashes = nil
}

// compute asks for the sum of an algorithm that the client did not announce.
func (b *body) compute(a checksum.Algorithm) { b.algo, b.sum = a, a.New() }

// readAll reads a small body (XML) whole. It grows with what comes and not with
// what was announced.
func (rq *request) readAll(limit int64) ([]byte, Sum, error) {
	b, err := rq.openBody(limit)
	if err != nil {
		if e := s3err.As(err); e != nil && e.Code == s3err.EntityTooLarge {
			err = s3err.Msg(s3err.MaxMessageLengthExceeded, "", s3err.Field{Name: "MaxMessageLengthBytes", Value: itoa(limit)})
		}
		return nil, Sum{}, err
	}
	defer rq.release(b)
	data, err := io.ReadAll(b)
	if err != nil {
		return nil, Sum{}, err
	}
	sum, err := b.finish()
	return data, sum, err
}
