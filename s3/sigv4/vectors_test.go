package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"twofold/s3/s3err"
)

// The examples that AWS publishes with the S3 API.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

type creds map[string]string

func (c creds) Lookup(k string) (string, bool) { s, ok := c[k]; return s, ok }

func exampleVerifier() *Verifier {
	now := time.Date(2013, 5, 24, 0, 0, 10, 0, time.UTC)
	return New(creds{exampleKey: exampleSecret}, "us-east-1", func() time.Time { return now })
}

func request(t testing.TB, method, host, target string, header map[string]string) (*http.Request, Params) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: method, Host: host, URL: u, Header: http.Header{}}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	q, err := ParseParams(u.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	return r, q
}

func authHeader(signed, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=" + exampleKey + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + signed + ",Signature=" + signature
}

func TestPublishedHeaderExamples(t *testing.T) {
	const virtual = "examplebucket.s3.amazonaws.com"
	for _, x := range []struct {
		name, method, target string
		header               map[string]string
		signed, signature    string
	}{
		{"get object", "GET", "/test.txt", map[string]string{"Range": "bytes=0-9", "X-Amz-Content-Sha256": emptySHA256, "X-Amz-Date": "20130524T000000Z"},
			"host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"put object", "PUT", "/test$file.text", map[string]string{"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Date": "20130524T000000Z",
			"X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "X-Amz-Content-Sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
			"date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"lifecycle", "GET", "/?lifecycle", map[string]string{"X-Amz-Content-Sha256": emptySHA256, "X-Amz-Date": "20130524T000000Z"},
			"host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"list", "GET", "/?max-keys=2&prefix=J", map[string]string{"X-Amz-Content-Sha256": emptySHA256, "X-Amz-Date": "20130524T000000Z"},
			"host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
	} {
		x.header["Authorization"] = authHeader(x.signed, x.signature)
		r, q := request(t, x.method, virtual, x.target, x.header)
		a, err := exampleVerifier().Verify(r, q)
		if err != nil {
			t.Errorf("%s: %v\n%v", x.name, err, s3err.As(err).Fields)
		} else if a.AccessKey != exampleKey || a.Payload != PayloadHash || hex.EncodeToString(a.Hash[:]) != x.header["X-Amz-Content-Sha256"] {
			t.Errorf("%s: %+v", x.name, a)
		}
		// One changed character of the signature, one of the request.
		r.Header.Set("Authorization", authHeader(x.signed, strings.Replace(x.signature, "8", "9", 1)))
		if _, err := exampleVerifier().Verify(r, q); s3err.As(err).Code != s3err.SignatureDoesNotMatch {
			t.Errorf("%s: a wrong signature gave %v", x.name, err)
		}
		r.Header.Set("Authorization", authHeader(x.signed, x.signature))
		r.URL.Path += "x"
		if _, err := exampleVerifier().Verify(r, q); s3err.As(err).Code != s3err.SignatureDoesNotMatch {
			t.Errorf("%s: another path gave %v", x.name, err)
		}
	}
}

func TestPublishedPresignedExample(t *testing.T) {
	r, q := request(t, "GET", "examplebucket.s3.amazonaws.com", "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", nil)
	v := exampleVerifier()
	if a, err := v.Verify(r, q); err != nil || !a.Presigned {
		t.Fatal(err)
	}
	v.now = func() time.Time { return time.Date(2013, 5, 25, 0, 0, 1, 0, time.UTC) }
	if _, err := v.Verify(r, q); s3err.As(err).Text() != "Request has expired" {
		t.Fatal(err)
	}
	v.now = func() time.Time { return time.Date(2013, 5, 23, 23, 0, 0, 0, time.UTC) }
	if _, err := v.Verify(r, q); s3err.As(err).Text() != "Request is not valid yet" {
		t.Fatal(err)
	}
}

func TestPublishedStreamingExamples(t *testing.T) {
	base := map[string]string{"Content-Encoding": "aws-chunked", "X-Amz-Date": "20130524T000000Z",
		"X-Amz-Decoded-Content-Length": "66560", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY"}
	big, small := sha256.Sum256([]byte(strings.Repeat("a", 65536))), sha256.Sum256([]byte(strings.Repeat("a", 1024)))
	empty := sha256.Sum256(nil)

	base["X-Amz-Content-Sha256"] = streamingSigned
	base["Authorization"] = authHeader("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
		"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
	r, q := request(t, "PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", base)
	r.ContentLength = 66824
	a, err := exampleVerifier().Verify(r, q)
	if err != nil {
		t.Fatal(err, s3err.As(err).Fields)
	}
	for _, x := range []struct {
		sum [32]byte
		sig string
	}{
		{big, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"},
		{small, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"},
		{empty, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"},
	} {
		if !a.Chunks.Chunk([]byte(x.sig), x.sum) {
			t.Errorf("chunk signature %s was refused", x.sig)
		}
	}

	base["X-Amz-Content-Sha256"], base["X-Amz-Trailer"] = streamingSignedTrailer, "x-amz-checksum-crc32c"
	base["Authorization"] = authHeader("content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
		"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
	r, q = request(t, "PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", base)
	if a, err = exampleVerifier().Verify(r, q); err != nil {
		t.Fatal(err, s3err.As(err).Fields)
	}
	for _, x := range []struct {
		sum [32]byte
		sig string
	}{
		{big, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"},
		{small, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"},
		{empty, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"},
	} {
		if !a.Chunks.Chunk([]byte(x.sig), x.sum) {
			t.Errorf("chunk signature %s was refused", x.sig)
		}
	}
	if !a.Chunks.Trailer([]byte("d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"), sha256.Sum256([]byte("x-amz-checksum-crc32c:sOO8/Q==\n"))) {
		t.Error("the trailer's signature was refused")
	}
}
