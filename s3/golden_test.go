package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// goldenTime is the clock of a transcript's server and client: what is said about
// time is compared too, and is the same on every day.
var goldenTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// call is one request of a transcript.
type call struct {
	about  string
	method string
	target string
	header map[string]string
	body   string
	// mangle changes the request behind the signing.
	mangle func(*http.Request)
	sha    string // x-amz-content-sha256; empty: the body's
	anon   bool   // not signed
	at     time.Time
}

// sign signs as the SDK does.
func (c *call) request(t testing.TB, base string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(c.method, base+c.target, strings.NewReader(c.body))
	noErr(t, err)
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	if h := c.header["Host"]; h != "" {
		req.Host = h
		req.Header.Del("Host")
	}
	if !c.anon {
		sha := c.sha
		if sha == "" {
			sum := sha256.Sum256([]byte(c.body))
			sha = hex.EncodeToString(sum[:])
		}
		req.Header.Set("X-Amz-Content-Sha256", sha)
		at := c.at
		if at.IsZero() {
			at = time.Now()
		}
		cred := aws.Credentials{AccessKeyID: testUser, SecretAccessKey: testSecret}
		noErr(t, v4.NewSigner().SignHTTP(context.Background(), cred, req, sha, "s3", "us-east-1", at,
			func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }))
	}
	if c.mangle != nil {
		c.mangle(req)
	}
	return req
}

// volatile is what differs from run to run.
var volatile = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`<RequestId>[0-9A-F]{16}</RequestId><HostId>[^<]{64}</HostId>`), "<RequestId>ID</RequestId><HostId>HOST</HostId>"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`(?s)<StringToSign>.*?</StringToSign>`), "<StringToSign>...</StringToSign>"},
	{regexp.MustCompile(`(?s)<CanonicalRequest>.*?</CanonicalRequest>`), "<CanonicalRequest>...</CanonicalRequest>"},
	{regexp.MustCompile(`<SignatureProvided>[^<]*<`), "<SignatureProvided>...<"},
	{regexp.MustCompile(`UploadId>[0-9a-f]{32}<`), "UploadId>UPLOAD<"},
}

// transcript sends the calls at goldenTime and writes down what came back.
func transcript(t *testing.T, srv *httptest.Server, calls []call) []byte {
	var out bytes.Buffer
	client := srv.Client()
	client.Transport.(*http.Transport).DisableCompression = true
	for _, c := range calls {
		fmt.Fprintf(&out, "# %s\n%s %s\n", c.about, c.method, shorten(c.target))
		if c.at.IsZero() {
			c.at = goldenTime
		}
		resp, err := client.Do(c.request(t, srv.URL))
		if err != nil {
			t.Fatalf("%s: %v", c.about, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", c.about, err)
		}
		fmt.Fprintf(&out, "%s\n", resp.Status)
		if len(resp.Header.Get("X-Amz-Request-Id")) != 16 || len(resp.Header.Get("X-Amz-Id-2")) != 64 {
			t.Errorf("%s: no request id", c.about)
		}
		for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
			switch name {
			case "Date", "X-Amz-Request-Id", "X-Amz-Id-2", "Content-Length", "Server":
			default:
				fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(resp.Header[name], ", "))
			}
		}
		text := string(body)
		for _, v := range volatile {
			text = v.re.ReplaceAllString(text, v.with)
		}
		fmt.Fprintf(&out, "%s\n\n", shorten(text))
	}
	return out.Bytes()
}

func shorten(s string) string {
	return regexp.MustCompile(`x{40,}`).ReplaceAllStringFunc(s, func(x string) string { return fmt.Sprintf("x*%d", len(x)) })
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *rewrite {
		noErr(t, os.MkdirAll("testdata", 0o755))
		noErr(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	noErr(t, err)
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s:%d differs (-rewrite writes it anew):\n got %s\nwant %s", path, i+1, g[i], append(w, "")[min(i, len(w))])
		}
	}
	t.Fatalf("%s is longer than what came", path)
}

// seeded has a bucket with one object of 10 bytes.
func seeded(t *testing.T) (*fakeVolume, *httptest.Server) {
	return seededAt(t, nil)
}

// seededAt is seeded with a clock; nil: the machine's.
func seededAt(t *testing.T, now func() time.Time) (*fakeVolume, *httptest.Server) {
	v, srv := testServerAt(t, now)
	noErr(t, v.CreateBucket(context.Background(), "bucket", ""))
	_, err := v.put("bucket", "key", []byte("0123456789"), Attrs{}, Sum{ETag: "781e5e245d69b566979b86e28d23f2c7"}, metadata.Conditions{}, nil)
	noErr(t, err)
	return v, srv
}

func header(kv ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

func TestGoldenAuthentication(t *testing.T) {
	_, srv := seededAt(t, func() time.Time { return goldenTime })
	set := func(name, v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, v) }
	}
	auth := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
		}
	}
	const sig = "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature="
	calls := []call{
		{about: "anonymous", method: "GET", target: "/bucket/key", anon: true},
		{about: "anonymous HEAD has no body", method: "HEAD", target: "/bucket/key", anon: true},
		{about: "unknown access key", method: "GET", target: "/bucket/key", mangle: auth("AKIDTEST", "AKIDNONE")},
		{about: "wrong signature", method: "GET", target: "/bucket/key", mangle: auth("Signature=", "Signature=0")},
		{about: "another path than was signed", method: "GET", target: "/bucket/key", mangle: func(r *http.Request) { r.URL.Path = "/bucket/other" }},
		{about: "another query than was signed", method: "GET", target: "/bucket/key", mangle: func(r *http.Request) { r.URL.RawQuery = "versionId=null" }},
		{about: "a header that was not signed", method: "GET", target: "/bucket/key", mangle: set("X-Amz-Request-Payer", "requester")},
		{about: "a signed header taken away", method: "GET", target: "/bucket/key", header: header("X-Amz-Request-Payer", "requester"), mangle: func(r *http.Request) { r.Header.Del("X-Amz-Request-Payer") }},
		{about: "a clock 16 minutes behind", method: "GET", target: "/bucket/key", at: goldenTime.Add(-16 * time.Minute)},
		{about: "a clock 16 minutes ahead", method: "GET", target: "/bucket/key", at: goldenTime.Add(16 * time.Minute)},
		{about: "another region", method: "GET", target: "/bucket/key", mangle: auth("us-east-1", "eu-west-1")},
		{about: "another service", method: "GET", target: "/bucket/key", mangle: auth("/s3/", "/ec2/")},
		{about: "another terminator", method: "GET", target: "/bucket/key", mangle: auth("aws4_request", "aws5_request")},
		{about: "no date in the scope", method: "GET", target: "/bucket/key", mangle: auth("AKIDTEST/2", "AKIDTEST/x")},
		{about: "no signature", method: "GET", target: "/bucket/key", mangle: set("Authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request")},
		{about: "headers not sorted", method: "GET", target: "/bucket/key", mangle: auth("SignedHeaders=", "SignedHeaders=z;")},
		{about: "an unknown scheme", method: "GET", target: "/bucket/key", anon: true, mangle: set("Authorization", "Bearer secrettoken")},
		{about: "signature version 2", method: "GET", target: "/bucket/key", anon: true, mangle: set("Authorization", "AWS AKIDTEST:c2VjcmV0")},
		{about: "signature version 2 in the query", method: "GET", target: "/bucket/key?AWSAccessKeyId=AKIDTEST&Signature=x&Expires=1", anon: true},
		{about: "signature version 2 in the query, not all of it", method: "GET", target: "/bucket/key?AWSAccessKeyId=AKIDTEST&Expires=1", anon: true},
		{about: "no x-amz-content-sha256", method: "GET", target: "/bucket/key", anon: true, mangle: func(r *http.Request) {
			r.Header.Set("X-Amz-Date", goldenTime.Format("20060102T150405Z"))
			r.Header.Set("Authorization", sig+"00")
		}},
		{about: "no date", method: "GET", target: "/bucket/key", mangle: func(r *http.Request) { r.Header.Del("X-Amz-Date") }},
		{about: "a payload hash that is none", method: "GET", target: "/bucket/key", sha: "nonsense"},
		{about: "two mechanisms", method: "GET", target: "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256"},
		{about: "presigned: not all parameters", method: "GET", target: "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256", anon: true},
		{about: "presigned: another algorithm", method: "GET", target: "/bucket/key?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Signature=0", anon: true},
		{about: "presigned: too long", method: "GET", target: presigned("X-Amz-Expires=604801"), anon: true},
		{about: "presigned: negative", method: "GET", target: presigned("X-Amz-Expires=-1"), anon: true},
		{about: "presigned: not a number", method: "GET", target: presigned("X-Amz-Expires=never"), anon: true},
		{about: "presigned: another region", method: "GET", target: strings.Replace(presigned("X-Amz-Expires=60"), "us-east-1", "eu-west-1", 1), anon: true},
		{about: "presigned: expired", method: "GET", target: presigned("X-Amz-Expires=60"), anon: true},
		{about: "presigned: wrong signature", method: "GET", target: presigned("X-Amz-Expires=604800"), anon: true},
	}
	golden(t, "authentication.golden", transcript(t, srv, calls))
}

func presigned(expires string) string {
	return "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDTEST%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&" +
		expires + "&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
}

func TestGoldenRequests(t *testing.T) {
	_, srv := seededAt(t, func() time.Time { return goldenTime })
	long := strings.Repeat("x", 1025)
	deleteXML := "<Delete><Object><Key>nothing</Key></Object></Delete>"
	calls := []call{
		{about: "a bad bucket name", method: "GET", target: "/Bad_Bucket"},
		{about: "a short bucket name", method: "PUT", target: "/ab"},
		{about: "an address as a bucket name", method: "PUT", target: "/192.168.0.1"},
		{about: "no such bucket", method: "GET", target: "/nobucket"},
		{about: "no such bucket for HEAD", method: "HEAD", target: "/nobucket"},
		{about: "no such bucket for PUT", method: "PUT", target: "/nobucket/key", body: "x"},
		{about: "no such bucket to delete", method: "DELETE", target: "/nobucket"},
		{about: "a bucket that is there", method: "PUT", target: "/bucket"},
		{about: "a bucket that is not empty", method: "DELETE", target: "/bucket"},
		{about: "another location", method: "PUT", target: "/bucket2", body: "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"},
		{about: "bucket XML that is none", method: "PUT", target: "/bucket2", body: "nonsense"},
		{about: "bucket with object lock", method: "PUT", target: "/bucket2", header: header("X-Amz-Bucket-Object-Lock-Enabled", "true")},
		{about: "no such key", method: "GET", target: "/bucket/none"},
		{about: "no such key for HEAD", method: "HEAD", target: "/bucket/none"},
		{about: "a key that is too long", method: "GET", target: "/bucket/" + long},
		{about: "a key that is not UTF-8", method: "GET", target: "/bucket/%FF%FE"},
		{about: "no such version", method: "GET", target: "/bucket/key?versionId=abc"},
		{about: "the null version", method: "GET", target: "/bucket/key?versionId=null"},
		{about: "unknown parameters are ignored", method: "GET", target: "/bucket/key?x-id=GetObject&foo=bar"},
		{about: "another type", method: "GET", target: "/bucket/key?response-content-type=text/x%09y"},
		{about: "a type that no header can carry", method: "GET", target: "/bucket/key?response-content-type=text%0D%0AX-Other:%20x"},
		{about: "metadata that no header can carry as it is", method: "PUT", target: "/bucket/meta", header: header("X-Amz-Meta-Tab", "a\tb", "X-Amz-Meta-Line", "=?UTF-8?Q?a=0Ab?=", "X-Amz-Meta-Latin", "\xfc", "X-Amz-Meta-Utf", "ü", "X-Amz-Meta-Space", "=?UTF-8?Q?_x?=")},
		{about: "and read", method: "HEAD", target: "/bucket/meta"},
		{about: "and gone", method: "DELETE", target: "/bucket/meta"},
		{about: "a range", method: "GET", target: "/bucket/key", header: header("Range", "bytes=2-3")},
		{about: "a range outside", method: "GET", target: "/bucket/key", header: header("Range", "bytes=10-20")},
		{about: "a range outside for HEAD", method: "HEAD", target: "/bucket/key", header: header("Range", "bytes=10-20")},
		{about: "an empty suffix", method: "GET", target: "/bucket/key", header: header("Range", "bytes=-0")},
		{about: "a malformed range is ignored", method: "GET", target: "/bucket/key", header: header("Range", "bytes=x")},
		{about: "not modified", method: "GET", target: "/bucket/key", header: header("If-None-Match", `"781e5e245d69b566979b86e28d23f2c7"`)},
		{about: "modified", method: "GET", target: "/bucket/key", header: header("If-Match", `"nothing"`)},
		{about: "not modified since", method: "GET", target: "/bucket/key", header: header("If-Modified-Since", "Tue, 14 Nov 2023 22:13:22 GMT")},
		{about: "modified since", method: "GET", target: "/bucket/key", header: header("If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:21 GMT")},
		{about: "If-Match counts more than If-Unmodified-Since", method: "GET", target: "/bucket/key", header: header("If-Match", "*", "If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:21 GMT")},
		{about: "If-None-Match counts more than If-Modified-Since", method: "GET", target: "/bucket/key", header: header("If-None-Match", `"x"`, "If-Modified-Since", "Tue, 14 Nov 2023 22:13:22 GMT")},
		{about: "If-Range of another version", method: "GET", target: "/bucket/key", header: header("Range", "bytes=2-3", "If-Range", `"x"`)},
		{about: "part 1 of an object without parts", method: "GET", target: "/bucket/key?partNumber=1"},
		{about: "part 2 of it", method: "GET", target: "/bucket/key?partNumber=2"},
		{about: "part 0", method: "GET", target: "/bucket/key?partNumber=0"},
		{about: "create only where there is none", method: "PUT", target: "/bucket/key", body: "x", header: header("If-None-Match", "*")},
		{about: "a condition that PUT does not have", method: "PUT", target: "/bucket/key", body: "x", header: header("If-None-Match", `"x"`)},
		{about: "replace another version", method: "PUT", target: "/bucket/key", body: "x", header: header("If-Match", `"x"`)},
		{about: "delete another version", method: "DELETE", target: "/bucket/key", header: header("If-Match", `"x"`)},
		{about: "a method that objects do not have", method: "PATCH", target: "/bucket/key"},
		{about: "a method that buckets do not have", method: "PATCH", target: "/bucket"},
		{about: "a method that the service does not have", method: "PUT", target: "/"},
		{about: "DELETE of the uploads", method: "DELETE", target: "/bucket?uploads"},
		{about: "DELETE of the location", method: "DELETE", target: "/bucket?location"},
		{about: "PUT of a delete", method: "PUT", target: "/bucket?delete"},
		{about: "PUT of uploads", method: "PUT", target: "/bucket/key?uploads", body: "x"},
		{about: "POST to an object", method: "POST", target: "/bucket/key"},
		{about: "a browser's form", method: "POST", target: "/bucket"},
		{about: "a browser's preflight", method: "OPTIONS", target: "/bucket/key", anon: true, header: header("Origin", "http://example.com", "Access-Control-Request-Method", "PUT")},
		{about: "OPTIONS without an origin", method: "OPTIONS", target: "/bucket/key", anon: true},
		{about: "max-keys that is no number", method: "GET", target: "/bucket?max-keys=x"},
		{about: "max-keys below zero", method: "GET", target: "/bucket?max-keys=-1"},
		{about: "max-keys zero", method: "GET", target: "/bucket?max-keys=0&list-type=2"},
		{about: "a token that is none", method: "GET", target: "/bucket?list-type=2&continuation-token=AAAA"},
		{about: "an empty token", method: "GET", target: "/bucket?list-type=2&continuation-token="},
		{about: "an unknown encoding", method: "GET", target: "/bucket?encoding-type=base64"},
		{about: "a malformed query", method: "GET", target: "/bucket?prefix=%zz", anon: true},
		{about: "a list", method: "GET", target: "/bucket?list-type=2&prefix=k&fetch-owner=true"},
		{about: "an older list", method: "GET", target: "/bucket?delimiter=e"},
		{about: "no digest", method: "POST", target: "/bucket?delete", body: deleteXML},
		{about: "malformed XML", method: "POST", target: "/bucket?delete", body: "<Delete>", header: header("X-Amz-Checksum-Crc32", "hRSJYA==")},
		{about: "a wrong checksum of the XML", method: "POST", target: "/bucket?delete", body: "<Delete>", header: header("X-Amz-Checksum-Crc32", "AAAAAA==")},
		{about: "no such upload", method: "PUT", target: "/bucket/key?partNumber=1&uploadId=0", body: "x"},
		{about: "no such upload to complete", method: "POST", target: "/bucket/key?uploadId=00000000000000000000000000000000", body: "x"},
		{about: "no such upload to abort", method: "DELETE", target: "/bucket/key?uploadId=00000000000000000000000000000000"},
		{about: "no such upload to list", method: "GET", target: "/bucket/key?uploadId=00000000000000000000000000000000"},
		{about: "part number zero", method: "PUT", target: "/bucket/key?partNumber=0&uploadId=00000000000000000000000000000000"},
		{about: "a part number alone", method: "PUT", target: "/bucket/key?partNumber=1"},
		{about: "an unknown checksum algorithm", method: "POST", target: "/bucket/key?uploads", header: header("X-Amz-Checksum-Algorithm", "MD4")},
		{about: "a full-object SHA256", method: "POST", target: "/bucket/key?uploads", header: header("X-Amz-Checksum-Algorithm", "SHA256", "X-Amz-Checksum-Type", "FULL_OBJECT")},
		{about: "an upload", method: "POST", target: "/bucket/key?uploads", header: header("X-Amz-Checksum-Algorithm", "CRC64NVME")},
		{about: "uploads", method: "GET", target: "/bucket?uploads"},
		{about: "a copy of nothing", method: "PUT", target: "/bucket/copy", header: header("X-Amz-Copy-Source", "/bucket/none")},
		{about: "a copy without a key", method: "PUT", target: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket")},
		{about: "a copy onto itself", method: "PUT", target: "/bucket/key", header: header("X-Amz-Copy-Source", "bucket/key")},
		{about: "a copy under a condition", method: "PUT", target: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket/key", "X-Amz-Copy-Source-If-None-Match", "*")},
		{about: "an unknown directive", method: "PUT", target: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket/key", "X-Amz-Metadata-Directive", "MERGE")},
		{about: "a copy", method: "PUT", target: "/bucket/copy", header: header("X-Amz-Copy-Source", "bucket/key")},
		{about: "an unknown storage class", method: "PUT", target: "/bucket/k", body: "x", header: header("X-Amz-Storage-Class", "GLACIER")},
		{about: "too much metadata", method: "PUT", target: "/bucket/k", body: "x", header: header("X-Amz-Meta-A", strings.Repeat("x", 2048))},
		{about: "encryption", method: "PUT", target: "/bucket/k", body: "x", header: header("X-Amz-Server-Side-Encryption", "AES256")},
		{about: "tags", method: "PUT", target: "/bucket/k", body: "x", header: header("X-Amz-Tagging", "a=b")},
		{about: "a public ACL", method: "PUT", target: "/bucket/k", body: "x", header: header("X-Amz-Acl", "public-read")},
		{about: "buckets", method: "GET", target: "/"},
		{about: "the location", method: "GET", target: "/bucket?location"},
		{about: "HEAD of a bucket", method: "HEAD", target: "/bucket"},
		{about: "HEAD of an object", method: "HEAD", target: "/bucket/key"},
	}
	golden(t, "requests.golden", transcript(t, srv, calls))
}

func TestGoldenBodies(t *testing.T) {
	v, srv := seededAt(t, func() time.Time { return goldenTime })
	calls := []call{
		{about: "another body than was signed", method: "PUT", target: "/bucket/k", body: "hello", mangle: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("olleh")) }},
		{about: "a wrong Content-MD5", method: "PUT", target: "/bucket/k", body: "hello", header: header("Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA==")},
		{about: "a malformed Content-MD5", method: "PUT", target: "/bucket/k", body: "hello", header: header("Content-Md5", "AAAA")},
		{about: "a wrong checksum", method: "PUT", target: "/bucket/k", body: "hello", header: header("X-Amz-Checksum-Sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")},
		{about: "a malformed checksum", method: "PUT", target: "/bucket/k", body: "hello", header: header("X-Amz-Checksum-Crc32", "zzz")},
		{about: "two checksums", method: "PUT", target: "/bucket/k", body: "hello", header: header("X-Amz-Checksum-Crc32", "AAAAAA==", "X-Amz-Checksum-Crc32c", "AAAAAA==")},
		{about: "a checksum that was only announced", method: "PUT", target: "/bucket/k", body: "hello", header: header("X-Amz-Sdk-Checksum-Algorithm", "CRC32")},
		{about: "too large", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", header: header("X-Amz-Decoded-Content-Length", "5368709121")},
		{about: "chunked without a decoded length", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "0\r\n\r\n"},
		{about: "chunked with a decoded length that is none", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "0\r\n\r\n", header: header("X-Amz-Decoded-Content-Length", "-5")},
		{about: "chunked: fewer bytes", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhello\r\n0\r\n\r\n", header: header("X-Amz-Decoded-Content-Length", "6")},
		{about: "chunked: more bytes", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhello\r\n0\r\n\r\n", header: header("X-Amz-Decoded-Content-Length", "4")},
		{about: "chunked: cut off", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhel", header: header("X-Amz-Decoded-Content-Length", "5")},
		{about: "chunked: an absurd size", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "ffffffffffffffff\r\nhel", header: header("X-Amz-Decoded-Content-Length", "5")},
		{about: "chunked: a wrong trailer", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
			header: header("X-Amz-Decoded-Content-Length", "5", "X-Amz-Trailer", "x-amz-checksum-crc32")},
		{about: "chunked: a missing trailer", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhello\r\n0\r\n\r\n",
			header: header("X-Amz-Decoded-Content-Length", "5", "X-Amz-Trailer", "x-amz-checksum-crc32")},
		{about: "chunked: an unsupported trailer", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "0\r\n\r\n",
			header: header("X-Amz-Decoded-Content-Length", "0", "X-Amz-Trailer", "x-amz-meta-late")},
		{about: "chunked: no signatures", method: "PUT", target: "/bucket/k", sha: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", body: "5\r\nhello\r\n0\r\n\r\n", header: header("X-Amz-Decoded-Content-Length", "5")},
		{about: "chunked: a wrong signature", method: "PUT", target: "/bucket/k", sha: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", body: "5;chunk-signature=" + strings.Repeat("0", 64) + "\r\nhello\r\n0\r\n\r\n", header: header("X-Amz-Decoded-Content-Length", "5")},
		{about: "nothing of all that was stored", method: "GET", target: "/bucket/k"},
		{about: "a good trailer", method: "PUT", target: "/bucket/k", sha: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body: "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
			header: header("X-Amz-Decoded-Content-Length", "5", "X-Amz-Trailer", "x-amz-checksum-crc32", "Content-Encoding", "aws-chunked,gzip")},
		{about: "and read back", method: "GET", target: "/bucket/k", header: header("X-Amz-Checksum-Mode", "ENABLED")},
	}
	golden(t, "bodies.golden", transcript(t, srv, calls))
	if n := len(v.buckets["bucket"].objects); n != 2 {
		t.Fatalf("%d objects", n)
	}
}

// TestNotImplemented asks for every sub-resource by every method.
func TestNotImplemented(t *testing.T) {
	_, srv := seeded(t)
	subs := map[string]string{
		"/bucket?":     "abac accelerate acl analytics cors encryption intelligent-tiering inventory lifecycle logging metadataConfiguration metadataInventoryTable metadataJournalTable metadataTable metrics notification object-lock ownershipControls policy policyStatus publicAccessBlock replication requestPayment session tagging versioning versions website",
		"/bucket/key?": "acl attributes legal-hold retention tagging torrent restore select renameObject encryption",
	}
	for base, names := range subs {
		for _, name := range strings.Fields(names) {
			for _, method := range []string{"GET", "PUT", "POST", "DELETE", "HEAD"} {
				if _, ok := bucketSetting(name); ok && method == "GET" && base == "/bucket?" {
					continue // TestGoldenSettings
				}
				if _, ok := objectSetting(name); ok && method == "GET" && base != "/bucket?" {
					continue
				}
				c := call{method: method, target: base + name}
				resp, err := srv.Client().Do(c.request(t, srv.URL))
				noErr(t, err)
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 501 || method != "HEAD" && !bytes.Contains(body, []byte("<Code>NotImplemented</Code>")) {
					t.Errorf("%s %s: %d %s", method, c.target, resp.StatusCode, body)
				}
			}
		}
	}
}

// TestReadFails: an error before the first byte is answered as one, and one behind
// it cuts the connection, so that the client knows.
func TestReadFails(t *testing.T) {
	v, srv := seeded(t)
	v.failGet = errs.Newf("fake", errs.ReadQuorum, "three of four drives are gone")
	c := call{method: "GET", target: "/bucket/key"}
	resp, err := srv.Client().Do(c.request(t, srv.URL))
	noErr(t, err)
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || !bytes.Contains(body, []byte("<Code>SlowDown</Code>")) || resp.Header.Get("Etag") != "" {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	v.failAt = 4
	resp, err = srv.Client().Do(c.request(t, srv.URL))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestKinds: every kind of error has a code with a status.
func TestKinds(t *testing.T) {
	for k := errs.Other; k <= errs.NotSupportedRename; k++ {
		e := toS3(errs.E("test", k, nil))
		if e.Text() == "" || e.Status() < 300 {
			t.Errorf("%v: %q %d", k, e.Text(), e.Status())
		}
	}
	if e := toS3(errs.E("outer", errs.Other, toS3(errs.E("inner", errs.NoBucket, nil)))); e.Code != "NoSuchBucket" {
		t.Error(e)
	}
	_ = twofold.Key("")
}
