package chunked

import (
	"bytes"
	"crypto/sha256"
	"strings"

	"twofold/s3/s3err"
)

const trailerSignature = "x-amz-trailer-signature"

// trailer reads the lines between the last chunk and the end of the body. Without
// trailers in the mode only the empty line may be there. AWS's own examples end a
// trailing header with LF alone, and have an empty line before the signature's.
func (d *Reader) trailer() error {
	h := sha256.New()
	mustSign := d.cfg.Trailer && d.cfg.Verifier != nil
	signed := false
	for n := 0; ; {
		line, err := d.line(d.cfg.Trailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			if signed || !mustSign {
				return nil
			}
			if n++; n > maxTrailer {
				return s3err.New(s3err.MalformedTrailerError)
			}
			continue
		}
		n += len(line)
		t, ok := parseTrailer(line)
		if !d.cfg.Trailer || !ok || signed || n > maxTrailer || len(d.trailers) == maxTrailers {
			return s3err.New(s3err.MalformedTrailerError)
		}
		if t.Name != trailerSignature {
			d.trailers = append(d.trailers, t)
			h.Write([]byte(t.Name + ":" + t.Value + "\n"))
			continue
		}
		if d.cfg.Verifier == nil {
			return s3err.New(s3err.MalformedTrailerError)
		}
		signed = true
		if !d.cfg.Verifier.Trailer([]byte(t.Value), [sha256.Size]byte(h.Sum(nil))) {
			return s3err.New(s3err.SignatureDoesNotMatch)
		}
	}
}

func parseTrailer(line []byte) (Trailer, bool) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	t := Trailer{strings.ToLower(strings.TrimSpace(string(name))), strings.TrimSpace(string(value))}
	return t, ok && t.Name != ""
}
