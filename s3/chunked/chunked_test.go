package chunked

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"twofold/s3/s3err"
)

// chain signs in the way of AWS's chain, with a hash in the place of the HMAC.
type chain struct{ prev [32]byte }

func (c *chain) next(kind string, sum [32]byte) []byte {
	c.prev = sha256.Sum256(append(append([]byte(kind), c.prev[:]...), sum[:]...))
	return []byte(hex.EncodeToString(c.prev[:]))
}
func (c *chain) Chunk(sig []byte, data [32]byte) bool { return bytes.Equal(sig, c.next("chunk", data)) }
func (c *chain) Trailer(sig []byte, t [32]byte) bool {
	return bytes.Equal(sig, c.next("trailer", t))
}

// encode writes chunks as a client would.
func encode(chunks [][]byte, signed bool, trailers []Trailer, trailerMode bool) []byte {
	var b bytes.Buffer
	var c chain
	for _, data := range append(chunks, nil) {
		fmt.Fprintf(&b, "%x", len(data))
		if signed {
			fmt.Fprintf(&b, ";chunk-signature=%s", c.next("chunk", sha256.Sum256(data)))
		}
		b.WriteString("\r\n")
		if len(data) > 0 {
			b.Write(data)
			b.WriteString("\r\n")
		}
	}
	h := sha256.New()
	for _, t := range trailers {
		fmt.Fprintf(&b, "%s:%s\r\n", t.Name, t.Value)
		fmt.Fprintf(h, "%s:%s\n", t.Name, t.Value)
	}
	if signed && trailerMode {
		fmt.Fprintf(&b, "%s:%s\r\n", trailerSignature, c.next("trailer", [32]byte(h.Sum(nil))))
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func config(signed, trailer bool, n int) Config {
	cfg := Config{Trailer: trailer, Length: int64(n)}
	if signed {
		cfg.Verifier = &chain{}
	}
	return cfg
}

// TestRoundTrip: whatever was chunked comes back, however the bytes arrive; and
// any one changed byte is an error or makes no difference to the content.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var chunks [][]byte
		var want []byte
		for range rapid.IntRange(0, 4).Draw(t, "chunks") {
			n := rapid.SampledFrom([]int{1, 2, 100, 8191, 8192, 8193, 20000}).Draw(t, "size")
			data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
			chunks, want = append(chunks, data), append(want, data...)
		}
		signed, trailer := rapid.Bool().Draw(t, "signed"), rapid.Bool().Draw(t, "trailer")
		var trailers []Trailer
		if trailer {
			trailers = []Trailer{{"x-amz-checksum-crc32", "AAAAAA=="}}
		}
		body := encode(chunks, signed, trailers, trailer)
		readers := []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader}
		wrap := rapid.SampledFrom(readers).Draw(t, "reader")
		r := NewReader(wrap(bytes.NewReader(body)), config(signed, trailer, len(want)))
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) || len(r.Trailers()) != len(trailers) {
			t.Fatalf("%d bytes, %v, want %d", len(got), err, len(want))
		}
		// Cut off anywhere it is an error.
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		if _, err := io.ReadAll(NewReader(bytes.NewReader(body[:cut]), config(signed, trailer, len(want)))); err == nil {
			t.Fatalf("cut at %d of %d nobody noticed", cut, len(body))
		}
		// A flipped bit in a signed body is an error, or did not matter.
		if signed {
			bad := bytes.Clone(body)
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			got, err := io.ReadAll(NewReader(bytes.NewReader(bad), config(signed, trailer, len(want))))
			if err == nil && !bytes.Equal(got, want) {
				t.Fatal("a flipped bit came through")
			}
		}
	})
}

func TestErrors(t *testing.T) {
	for _, x := range []struct {
		name, body string
		cfg        Config
		code       s3err.Code
	}{
		{"empty", "", Config{}, s3err.IncompleteBody},
		{"no final chunk", "5\r\nhello\r\n", Config{Length: 5}, s3err.IncompleteBody},
		{"no end", "5\r\nhello\r\n0\r\n", Config{Length: 5}, s3err.IncompleteBody},
		{"too short", "5\r\nhello\r\n0\r\n\r\n", Config{Length: 9}, s3err.IncompleteBody},
		{"too long", "5\r\nhello\r\n0\r\n\r\n", Config{Length: 4}, s3err.IncompleteBody},
		{"no size", ";x\r\n", Config{Length: 4}, s3err.InvalidRequest},
		{"negative", "-5\r\nhello\r\n0\r\n\r\n", Config{Length: 5}, s3err.InvalidRequest},
		{"overflow", "10000000000000000\r\n", Config{Length: 5}, s3err.InvalidRequest},
		{"longer than its size", "4\r\nhello\r\n0\r\n\r\n", Config{Length: 5}, s3err.InvalidRequest},
		{"LF alone", "5\nhello\r\n0\r\n\r\n", Config{Length: 5}, s3err.InvalidRequest},
		{"something behind", "0\r\n\r\nGET /", Config{}, s3err.InvalidRequest},
		{"endless line", strings.Repeat("0", 10000), Config{}, s3err.InvalidRequest},
		{"a trailer where none may be", "0\r\na:b\r\n\r\n", Config{}, s3err.MalformedTrailerError},
		{"a trailer without a colon", "0\r\nab\r\n\r\n", Config{Trailer: true}, s3err.MalformedTrailerError},
		{"too many trailers", "0\r\n" + strings.Repeat("a:b\r\n", 33) + "\r\n", Config{Trailer: true}, s3err.MalformedTrailerError},
		{"a trailer that is too large", "0\r\n" + strings.Repeat("a:"+strings.Repeat("b", 4000)+"\r\n", 5) + "\r\n", Config{Trailer: true}, s3err.MalformedTrailerError},
		{"no chunk signature", "0\r\n\r\n", Config{Verifier: &chain{}}, s3err.InvalidRequest},
		{"wrong chunk signature", "0;chunk-signature=" + strings.Repeat("0", 64) + "\r\n\r\n", Config{Verifier: &chain{}}, s3err.SignatureDoesNotMatch},
		{"an unsigned trailer", string(encode(nil, true, []Trailer{{"a", "b"}}, false)), Config{Verifier: &chain{}, Trailer: true}, s3err.IncompleteBody},
	} {
		r := NewReader(strings.NewReader(x.body), x.cfg)
		_, err := io.ReadAll(r)
		e := s3err.As(err)
		if e == nil || e.Code != x.code {
			t.Errorf("%s: %v, want %s", x.name, err, x.code)
		}
		if _, again := r.Read(make([]byte, 1)); !errors.Is(again, err) {
			t.Errorf("%s: the error did not stay: %v", x.name, again)
		}
	}
}

// TestForms: what AWS's examples and minio-go write beside the plain form.
func TestForms(t *testing.T) {
	for _, body := range []string{
		"5\r\nhello\r\n0\r\nx-a:b\r\n\r\n",
		"5\r\nhello\r\n0\r\nx-a:b\n\r\n",
		"5\r\nhello\r\n0\r\nX-A: b \r\n\r\n\r\n",
		"5;ext=1\r\nhello\r\n00\r\nx-a:b\r\n\r\n",
	} {
		r := NewReader(strings.NewReader(body), Config{Trailer: true, Length: 5})
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "hello" || len(r.Trailers()) != 1 || r.Trailers()[0] != (Trailer{"x-a", "b"}) {
			t.Errorf("%q: %q %v %v", body, got, err, r.Trailers())
		}
	}
}

// TestSourceError: what the connection failed with is what comes out.
func TestSourceError(t *testing.T) {
	boom := errors.New("boom")
	r := NewReader(io.MultiReader(strings.NewReader("5\r\nhe"), iotest.ErrReader(boom)), Config{Length: 5})
	if _, err := io.ReadAll(r); !errors.Is(err, boom) {
		t.Fatal(err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-a:b\r\n\r\n"), int64(5), true, false)
	f.Add(encode([][]byte{[]byte("hello")}, true, []Trailer{{"a", "b"}}, true), int64(5), true, true)
	f.Add(encode([][]byte{[]byte("hello")}, true, nil, false), int64(5), false, true)
	f.Fuzz(func(t *testing.T, body []byte, length int64, trailer, signed bool) {
		if length < 0 {
			return
		}
		cfg := config(signed, trailer, 0)
		cfg.Length = length
		n, err := io.Copy(io.Discard, NewReader(bytes.NewReader(body), cfg))
		if n > length || n > int64(len(body)) || err == nil && n != length {
			t.Fatalf("%d bytes of %d, %v", n, length, err)
		}
	})
}
