// Package chunked decodes aws-chunked bodies:
//
//	<hex size>[;chunk-signature=<64 hex>]CRLF  <size bytes>  CRLF
//	...
//	0[;chunk-signature=<64 hex>]CRLF
//	[<trailer name>:<value>CRLF ...]
//	[x-amz-trailer-signature:<64 hex>CRLF]
//	CRLF
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
//
// Bytes are handed out before their chunk's signature could be verified. So what
// was read counts for nothing until Read has returned io.EOF.
package chunked

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"twofold/s3/s3err"
)

// Limits on what a client can make us keep or scan.
const (
	maxLine     = 4 << 10  // bytes of a chunk's header or of one line of the trailer
	maxTrailer  = 16 << 10 // bytes of all trailer lines
	maxTrailers = 32
)

// BufferSize is the size of a Reader's buffer in bytes: more than any line.
const BufferSize = 8 << 10

// Verifier checks signatures; nil where chunks are not signed.
type Verifier interface {
	// Chunk reports whether sig is right for the next chunk.
	Chunk(sig []byte, data [sha256.Size]byte) bool
	// Trailer reports whether sig is right for the trailer.
	Trailer(sig []byte, trailer [sha256.Size]byte) bool
}

// Trailer is one trailing header: a lower-case name, a trimmed value.
type Trailer struct{ Name, Value string }

// Config says what a body must be.
type Config struct {
	Verifier Verifier // nil: unsigned
	Trailer  bool     // a trailer may follow, and with a Verifier it must be signed
	Length   int64    // bytes of content: x-amz-decoded-content-length
	Buffer   []byte   // BufferSize bytes to work in, the Reader's while it is read; nil: its own
}

type state uint8

const (
	atHeader state = iota // before a chunk's header
	inData                // within a chunk
	atEnd                 // everything was read and verified, or err is set
)

// Reader yields the content. Not safe for concurrent use.
type Reader struct {
	cfg      Config
	src      io.Reader
	buf      []byte // buf[r:w] was read from src and is not yet used
	r, w     int
	state    state
	left     int64 // bytes left of the chunk
	total    int64 // bytes of content left
	sig      [64]byte
	hash     hash.Hash // of the chunk's data, where signed
	trailers []Trailer
	err      error // sticky
}

var _ io.Reader = (*Reader)(nil)

// NewReader decodes src.
func NewReader(src io.Reader, cfg Config) *Reader {
	d := &Reader{cfg: cfg, src: src, total: cfg.Length, buf: cfg.Buffer}
	if len(d.buf) < BufferSize {
		d.buf = make([]byte, BufferSize)
	}
	if cfg.Verifier != nil {
		d.hash = sha256.New()
	}
	return d
}

// Trailers are the trailing headers, once Read has returned io.EOF.
func (d *Reader) Trailers() []Trailer { return d.trailers }

// Read returns content. Its error is io.EOF when all of it was there and right,
// else an *s3err.Error or what the source failed with.
func (d *Reader) Read(p []byte) (int, error) {
	for d.err == nil {
		if d.state == atHeader {
			d.fail(d.header())
			continue
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := d.data(p)
		d.fail(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, d.err
}

// fail keeps the first error.
func (d *Reader) fail(err error) {
	if d.err != nil || err == nil {
		return
	}
	if err == io.ErrUnexpectedEOF {
		err = s3err.Wrap(s3err.IncompleteBody, err)
	}
	d.err, d.state = err, atEnd
}

// data reads within a chunk, and finishes the chunk behind its last byte.
func (d *Reader) data(p []byte) (n int, err error) {
	if int64(len(p)) > d.left {
		p = p[:d.left]
	}
	if d.r < d.w {
		n = copy(p, d.buf[d.r:d.w])
		d.r += n
	} else if n, err = d.src.Read(p); n == 0 && err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	if d.hash != nil {
		d.hash.Write(p[:n])
	}
	d.left -= int64(n)
	d.total -= int64(n)
	if d.left > 0 {
		return n, nil // an error that came with bytes comes again
	}
	if err := d.crlf(); err != nil {
		return n, err
	}
	d.state = atHeader
	return n, d.verifyChunk()
}

func (d *Reader) verifyChunk() error {
	if d.hash == nil {
		return nil
	}
	var sum [sha256.Size]byte
	d.hash.Sum(sum[:0])
	d.hash.Reset()
	if !d.cfg.Verifier.Chunk(d.sig[:], sum) {
		return s3err.New(s3err.SignatureDoesNotMatch)
	}
	return nil
}

// header reads a chunk's header; the last chunk's also ends the body.
func (d *Reader) header() error {
	line, err := d.line(false)
	if err != nil {
		return err
	}
	size, rest, err := parseSize(line)
	if err != nil {
		return err
	}
	if size > d.total {
		return s3err.Msg(s3err.IncompleteBody, "The request body has more bytes than x-amz-decoded-content-length announced.")
	}
	if d.cfg.Verifier != nil {
		sig, ok := bytes.CutPrefix(rest, []byte(";chunk-signature="))
		if !ok || len(sig) != len(d.sig) {
			return badChunk("A chunk has no chunk-signature.")
		}
		copy(d.sig[:], sig)
	}
	if size > 0 {
		d.state, d.left = inData, size
		return nil
	}
	return d.finish()
}

// finish reads what follows the last chunk's header.
func (d *Reader) finish() error {
	if d.total != 0 {
		return s3err.Msg(s3err.IncompleteBody, "The request body has fewer bytes than x-amz-decoded-content-length announced.")
	}
	if err := d.verifyChunk(); err != nil {
		return err
	}
	if err := d.trailer(); err != nil {
		return err
	}
	return d.end()
}

// end makes sure that the body ends here. One more empty line may be there:
// minio-go writes it behind an unsigned trailer.
func (d *Reader) end() error {
	for d.w-d.r <= 2 {
		switch err := d.fill(); {
		case err == io.ErrUnexpectedEOF && (d.r == d.w || string(d.buf[d.r:d.w]) == "\r\n"):
			return io.EOF
		case err != nil:
			return err
		}
	}
	return badChunk("The request body goes on behind its last chunk.")
}

func badChunk(msg string) error { return s3err.Msg(s3err.InvalidRequest, msg) }

// parseSize reads the hexadecimal size that a chunk's header begins with.
func parseSize(line []byte) (size int64, rest []byte, err error) {
	i := 0
	for ; i < len(line) && line[i] != ';'; i++ {
		var v byte
		switch c := line[i]; {
		case '0' <= c && c <= '9':
			v = c - '0'
		case 'a' <= c && c <= 'f':
			v = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			v = c - 'A' + 10
		default:
			return 0, nil, badChunk("A chunk's size is not a hexadecimal number.")
		}
		if i >= 15 {
			return 0, nil, badChunk("A chunk's size is too large.")
		}
		size = size<<4 | int64(v)
	}
	if i == 0 {
		return 0, nil, badChunk("A chunk has no size.")
	}
	return size, line[i:], nil
}

// crlf consumes the line end behind a chunk's data.
func (d *Reader) crlf() error {
	line, err := d.line(false)
	if err != nil {
		return err
	}
	if len(line) != 0 {
		return badChunk("A chunk is longer than its size.")
	}
	return nil
}

// line returns the next line without its CRLF, or where lf without its LF alone. It
// is valid until the next call.
func (d *Reader) line(lf bool) ([]byte, error) {
	for scanned := 0; ; {
		if i := bytes.IndexByte(d.buf[d.r+scanned:d.w], '\n'); i >= 0 {
			end := d.r + scanned + i
			line := d.buf[d.r:end]
			d.r = end + 1
			if len(line) > 0 && line[len(line)-1] == '\r' {
				return line[:len(line)-1], nil
			}
			if lf {
				return line, nil
			}
			return nil, badChunk("A line of the chunked body does not end in CRLF.")
		}
		scanned = d.w - d.r
		if scanned > maxLine {
			return nil, badChunk("A line of the chunked body is too long.")
		}
		if err := d.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more of the source behind what is buffered.
func (d *Reader) fill() error {
	if d.r > 0 {
		d.w = copy(d.buf, d.buf[d.r:d.w])
		d.r = 0
	}
	for range 100 {
		n, err := d.src.Read(d.buf[d.w:])
		d.w += n
		if n > 0 {
			return nil // an error that came with bytes comes again
		}
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
