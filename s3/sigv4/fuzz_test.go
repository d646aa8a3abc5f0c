package sigv4

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"twofold/s3/s3err"
)

// fuzzVerify asks for what must hold of any request: an *s3err.Error of a client's
// fault, no panic, and never a success without the right signature.
func fuzzVerify(t *testing.T, r *http.Request, rawQuery string) {
	q, err := ParseParams(rawQuery)
	if err == nil {
		_, err = exampleVerifier().Verify(r, q)
	}
	e := s3err.As(err)
	if e == nil {
		t.Fatalf("no S3 error but %v", err)
	}
	if s := e.Status(); s < 400 || s >= 500 {
		t.Fatalf("%v is not the client's fault", e)
	}
	if strings.Contains(e.Error(), exampleSecret) {
		t.Fatal("the secret is in the error")
	}
}

func FuzzAuthorizationHeader(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=00", "20130524T000000Z", emptySHA256)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00", "20130524T000000Z", streamingSigned)
	f.Add("AWS a:b", "", "")
	f.Add("AWS4-HMAC-SHA256 ,=,==,", "x", unsignedPayload)
	f.Fuzz(func(t *testing.T, auth, date, sha string) {
		r := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: "/b/k"}, Header: http.Header{
			"Authorization": {auth}, "X-Amz-Date": {date}, "X-Amz-Content-Sha256": {sha}}}
		fuzzVerify(t, r, "")
	})
}

func FuzzPresigned(f *testing.F) {
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=00")
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%2F%2F%2F%2F&X-Amz-Date=20130524T000000Z&X-Amz-Expires=-1&X-Amz-SignedHeaders=;&X-Amz-Signature=x")
	f.Add("AWSAccessKeyId=a&Signature=b&Expires=1")
	f.Add("%zz=1")
	f.Fuzz(func(t *testing.T, query string) {
		fuzzVerify(t, &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: "/b/k"}, Header: http.Header{}}, query)
	})
}

// FuzzParams: what was parsed and is written canonically parses to the same.
func FuzzParams(f *testing.F) {
	f.Add("a=b&c&d=%20+%2B&&=x")
	f.Fuzz(func(t *testing.T, raw string) {
		ps, err := ParseParams(raw)
		if err != nil {
			return
		}
		canonical := string(appendCanonicalQuery(nil, ps, ""))
		again, err := ParseParams(canonical)
		if err != nil {
			t.Fatal(err)
		}
		if c := string(appendCanonicalQuery(nil, again, "")); c != canonical {
			t.Fatalf("%q, then %q", canonical, c)
		}
	})
}

func TestKeyCache(t *testing.T) {
	var c keyCache
	var a, b [64]byte
	c.get("s", "20130524", "r").sign(&a, []byte("m"))
	for i := range maxKeys + 10 {
		c.get("other", time.Unix(int64(i)*86400, 0).Format(dateFormat), "r")
	}
	if len(c.keys) > maxKeys {
		t.Fatal(len(c.keys))
	}
	c.get("s", "20130524", "r").sign(&b, []byte("m"))
	if a != b {
		t.Fatal("another key for the same day")
	}
}

func BenchmarkVerify(b *testing.B) {
	r, q := request(b, "GET", "examplebucket.s3.amazonaws.com", "/test.txt", map[string]string{
		"Range": "bytes=0-9", "X-Amz-Content-Sha256": emptySHA256, "X-Amz-Date": "20130524T000000Z",
		"Authorization": authHeader("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")})
	v := exampleVerifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r, q); err != nil {
			b.Fatal(err)
		}
	}
}
