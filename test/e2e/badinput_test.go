package e2e

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"twofold/internal/acl"
)

// What is wrong from outside gets S3's code in XML with a request id, stores
// nothing, and leaves the connection either closed or good for the next request.
func TestBadRequests(t *testing.T) {
	s := newStore(t)
	s.bucket("bucket")
	s.put("bucket", "there", []byte("0123456789"))
	big := strings.Repeat("x", 100<<10) // over what is kept inline: it would be a blob
	k := "/bucket/new"
	up, err := s.c.CreateMultipartUpload(context.Background(), &s3.CreateMultipartUploadInput{Bucket: aws.String("bucket"), Key: aws.String("new")})
	noErr(t, err)
	upload := *up.UploadId
	signed := "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	chunked := map[string]string{"x-amz-decoded-content-length": fmt.Sprint(len(big)), "content-encoding": "aws-chunked"}
	trailer := map[string]string{"x-amz-decoded-content-length": fmt.Sprint(len(big)), "content-encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"}
	head := func(k, v string) map[string]string { return map[string]string{k: v} }
	for _, c := range []struct {
		name string
		rawRequest
		status int
		code   string // "" for a success, which is not an error in S3
	}{
		{"wrong secret", rawRequest{method: "PUT", path: k, body: big, secret: "another-secret"}, 403, "SignatureDoesNotMatch"},
		{"skewed clock", rawRequest{method: "PUT", path: k, body: big, at: time.Now().Add(-time.Hour)}, 403, "RequestTimeTooSkewed"},
		{"clock ahead", rawRequest{method: "PUT", path: k, body: big, at: time.Now().Add(time.Hour)}, 403, "RequestTimeTooSkewed"},
		{"wrong payload hash", rawRequest{method: "PUT", path: k, body: big, payload: sum("other")}, 400, "XAmzContentSHA256Mismatch"},
		{"wrong Content-MD5", rawRequest{method: "PUT", path: k, body: big, headers: head("Content-MD5", base64.StdEncoding.EncodeToString(make([]byte, 16)))}, 400, "BadDigest"},
		{"malformed Content-MD5", rawRequest{method: "PUT", path: k, body: big, headers: head("Content-MD5", "nonsense")}, 400, "InvalidDigest"},
		{"wrong checksum", rawRequest{method: "PUT", path: k, body: big, headers: head("x-amz-checksum-crc32", "AAAAAA==")}, 400, "BadDigest"},
		{"malformed checksum", rawRequest{method: "PUT", path: k, body: big, headers: head("x-amz-checksum-crc32", "AAA")}, 400, "InvalidRequest"},
		{"truncated body", rawRequest{method: "PUT", path: k, body: big, length: 2 * len(big), cut: true}, 400, "IncompleteBody"},
		{"wrong chunk signature", rawRequest{method: "PUT", path: k, payload: signed, headers: chunked,
			body: fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n0;chunk-signature=%s\r\n\r\n", len(big), sum("a"), big, sum("b"))}, 403, "SignatureDoesNotMatch"},
		{"no chunk signature", rawRequest{method: "PUT", path: k, payload: signed, headers: chunked, body: fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big)}, 400, "InvalidRequest"},
		{"chunks end early", rawRequest{method: "PUT", path: k, payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: chunked, body: "5\r\nhello\r\n0\r\n\r\n"}, 400, "IncompleteBody"},
		{"malformed chunk", rawRequest{method: "PUT", path: k, payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: chunked, body: "zzz\r\nhello\r\n"}, 400, ""},
		{"wrong trailer", rawRequest{method: "PUT", path: k, payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: trailer,
			body: fmt.Sprintf("%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", len(big), big)}, 400, "BadDigest"},
		{"no trailer", rawRequest{method: "PUT", path: k, payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers: trailer,
			body: fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big)}, 400, "MalformedTrailerError"},
		{"too large", rawRequest{method: "PUT", path: k, length: 6 << 30}, 400, "EntityTooLarge"},
		{"no bucket", rawRequest{method: "PUT", path: "/nobucket/k", body: big}, 404, "NoSuchBucket"},
		{"upload that is not", rawRequest{method: "PUT", path: k, query: "partNumber=1&uploadId=nonsense", body: big}, 404, "NoSuchUpload"},
		{"part number", rawRequest{method: "PUT", path: k, query: "partNumber=10001&uploadId=" + upload, body: big}, 400, "InvalidArgument"},
		{"long key", rawRequest{method: "PUT", path: "/bucket/" + strings.Repeat("k", 1025), body: big}, 400, "KeyTooLongError"},
		{"key not UTF-8", rawRequest{method: "PUT", path: "/bucket/%FF%FE", body: big}, 400, "InvalidURI"},
		{"reserved key", rawRequest{method: "PUT", path: "/bucket/" + esc("%tf-ino-0123456789abcdef"), body: big}, 400, "InvalidArgument"},
		{"large metadata", rawRequest{method: "PUT", path: k, body: big, headers: head("x-amz-meta-k", strings.Repeat("v", 3000))}, 400, "MetadataTooLarge"},
		{"unknown class", rawRequest{method: "PUT", path: k, body: big, headers: head("x-amz-storage-class", "NONE")}, 400, "InvalidStorageClass"},
		{"bucket name", rawRequest{method: "PUT", path: "/Bad_Name"}, 400, "InvalidBucketName"},
		{"bucket name of one letter", rawRequest{method: "PUT", path: "/a"}, 400, "InvalidBucketName"},
		{"bucket name as an address", rawRequest{method: "PUT", path: "/192.168.0.1"}, 400, "InvalidBucketName"},
		{"bucket that is there", rawRequest{method: "PUT", path: "/bucket"}, 409, "BucketAlreadyOwnedByYou"},
		{"bucket not empty", rawRequest{method: "DELETE", path: "/bucket"}, 409, "BucketNotEmpty"},
		{"malformed XML", rawRequest{method: "POST", path: "/bucket", query: "delete=", body: "<Delete><Object>"}, 400, "MalformedXML"},
		{"other XML", rawRequest{method: "POST", path: "/bucket", query: "delete=", body: "<Other/>"}, 400, "MalformedXML"},
		{"entities", rawRequest{method: "POST", path: "/bucket", query: "delete=", body: `<!DOCTYPE a [<!ENTITY b "c">]><Delete><Object><Key>&b;</Key></Object></Delete>`}, 400, "MalformedXML"},
		{"huge XML", rawRequest{method: "POST", path: "/bucket", query: "delete=", body: "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 200000) + "</Delete>"}, 400, ""},
		{"too many deletes", rawRequest{method: "POST", path: "/bucket", query: "delete=", body: "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>"}, 400, "MalformedXML"},
		{"empty complete", rawRequest{method: "POST", path: k, query: "uploadId=" + upload, body: "<CompleteMultipartUpload></CompleteMultipartUpload>"}, 400, "MalformedXML"},
		{"range outside", rawRequest{method: "GET", path: "/bucket/there", headers: head("Range", "bytes=10-20")}, 416, "InvalidRange"},
		{"range of nonsense", rawRequest{method: "GET", path: "/bucket/there", headers: head("Range", "lines=1-2")}, 200, ""},
		{"range over the end", rawRequest{method: "GET", path: "/bucket/there", headers: head("Range", "bytes=5-99")}, 206, ""},
		{"no such key", rawRequest{method: "GET", path: "/bucket/none"}, 404, "NoSuchKey"},
		{"condition", rawRequest{method: "GET", path: "/bucket/there", headers: head("If-Match", `"other"`)}, 412, "PreconditionFailed"},
		{"unknown sub-resource", rawRequest{method: "GET", path: "/bucket", query: "inventory="}, 501, "NotImplemented"},
		{"setting that is not configured", rawRequest{method: "GET", path: "/bucket", query: "replication="}, 404, "ReplicationConfigurationNotFoundError"},
		{"acl", rawRequest{method: "PUT", path: "/bucket/there", query: "acl="}, 501, "NotImplemented"},
		{"unknown parameter", rawRequest{method: "GET", path: "/bucket/there", query: "x-unknown=1"}, 200, ""},
		{"max-keys", rawRequest{method: "GET", path: "/bucket", query: "list-type=2&max-keys=-1"}, 400, "InvalidArgument"},
		{"encoding", rawRequest{method: "GET", path: "/bucket", query: "list-type=2&encoding-type=rot13"}, 400, "InvalidArgument"},
		{"method", rawRequest{method: "POST", path: "/"}, 501, "NotImplemented"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dialRaw(t, s.Address)
			if c.query == "delete=" { // which has to announce a digest
				d := md5.Sum([]byte(c.body))
				c.headers = head("Content-MD5", base64.StdEncoding.EncodeToString(d[:]))
			}
			resp, body := conn.do(t, s.Address, c.rawRequest)
			if resp.StatusCode != c.status || c.status >= 400 && !strings.Contains(body, "<Code>"+c.code) {
				t.Errorf("%d %s, want %d %s", resp.StatusCode, body, c.status, c.code)
			}
			id := resp.Header.Get("x-amz-request-id")
			if id == "" || c.status >= 400 && (!strings.Contains(body, "<RequestId>"+id+"</RequestId>") || resp.Header.Get("Content-Type") != "application/xml") {
				t.Errorf("request id %q, %v, in %s", id, resp.Header, body)
			}
			if resp.Close || c.cut {
				return // closed: nothing of what is left can be taken for a request
			}
			if resp, body := conn.do(t, s.Address, rawRequest{method: "GET", path: "/bucket/there"}); resp.StatusCode != http.StatusOK || body != "0123456789" {
				t.Errorf("the next request on the connection: %d %s", resp.StatusCode, body)
			}
		})
	}
	t.Run("no signature", func(t *testing.T) {
		for text, code := range map[string]string{
			"GET /bucket/there HTTP/1.1\r\nHost: x\r\n\r\n":                                                  "AccessDenied",
			"GET /bucket/there HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 nonsense\r\n\r\n":      "AuthorizationHeaderMalformed",
			"GET /bucket/there?X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP/1.1\r\nHost: x\r\n\r\n":                 "AuthorizationQueryParametersError",
			"PUT /bucket/new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello":                          "AccessDenied",
			"GET /bucket/there HTTP/1.1\r\nHost: x\r\nAuthorization: AWS " + "abc:def" + "\r\n\r\n":          "InvalidRequest",
			"GET /bucket/there HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + "YTpi" + "\r\nX-A: b\r\n\r\n": "",
		} {
			if resp, body := dialRaw(t, s.Address).send(t, "GET", text, false); resp.StatusCode/100 != 4 || !strings.Contains(body, "<Code>"+code) {
				t.Errorf("%q: %d %s, want %s", text, resp.StatusCode, body, code)
			}
		}
	})
	t.Run("a good chunked body", func(t *testing.T) { // so that the bad ones above are bad for their reason only
		r := rawRequest{method: "PUT", path: "/bucket/chunked", payload: signed, headers: map[string]string{
			"x-amz-decoded-content-length": fmt.Sprint(len(big)), "content-encoding": "aws-chunked"}}
		head, sig := r.sign(s.Address)
		body := sig.chunk(big[:64<<10]) + sig.chunk(big[64<<10:]) + sig.chunk("")
		resp, text := dialRaw(t, s.Address).send(t, "PUT", head+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), false)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, text)
		}
		s.in(t).wantFile([]byte(big), "bucket", "chunked")
		s.in(t).delete("bucket", "chunked")
	})
	parts, err := s.c.ListParts(context.Background(), &s3.ListPartsInput{Bucket: aws.String("bucket"), Key: aws.String("new"), UploadId: &upload})
	if err != nil || len(parts.Parts) != 0 {
		t.Errorf("parts: %v %v", parts, err)
	}
	s.wantList("bucket", "", "there")
	s.wantDir(s.Path("bucket"), "there")
	s.wantDir(s.Path(), "bucket")
	for _, d := range s.Drives {
		waitFor(t, func() bool { return blobs(t, d) == 0 }) // dead blobs are collected in the background
	}
}

// The right errno for what is wrong in the mount.
func TestErrnos(t *testing.T) {
	s := newStore(t)
	s.bucket("bkt")
	s.bucket("other")
	p := func(e ...string) string { return s.Path(append([]string{"bkt"}, e...)...) }
	noErr(t, os.WriteFile(p("file"), []byte("x"), 0o644))
	noErr(t, os.MkdirAll(p("dir", "sub"), 0o755))
	noErr(t, os.MkdirAll(p("dir2", "sub"), 0o755))
	noErr(t, os.Symlink("loop", p("loop")))
	fd, err := unix.Open(p("file"), unix.O_RDWR, 0)
	noErr(t, err)
	defer unix.Close(fd)
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	long := strings.Repeat("n", 256)
	buf := make([]byte, 8)
	for what, c := range map[string]struct{ got, want error }{
		"open nothing":              {open(p("none"), unix.O_RDONLY), unix.ENOENT},
		"open below nothing":        {open(p("none", "x"), unix.O_CREAT|unix.O_WRONLY), unix.ENOENT},
		"open below a file":         {open(p("file", "x"), unix.O_RDONLY), unix.ENOTDIR},
		"create below a file":       {open(p("file", "x"), unix.O_CREAT|unix.O_WRONLY), unix.ENOTDIR},
		"create what is there":      {open(p("file"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY), unix.EEXIST},
		"write a directory":         {open(p("dir"), unix.O_WRONLY), unix.EISDIR},
		"a file as a directory":     {open(p("file"), unix.O_DIRECTORY), unix.ENOTDIR},
		"a loop":                    {open(p("loop"), unix.O_RDONLY), unix.ELOOP},
		"a long name":               {open(p(long), unix.O_CREAT|unix.O_WRONLY), unix.ENAMETOOLONG},
		"look up a long name":       {unix.Access(p(long), unix.F_OK), unix.ENAMETOOLONG},
		"mkdir of a long name":      {unix.Mkdir(p(long), 0o755), unix.ENAMETOOLONG},
		"mkdir what is there":       {unix.Mkdir(p("dir"), 0o755), unix.EEXIST},
		"mkdir of an escape":        {unix.Mkdir(p("%tf-long-"+strings.Repeat("x", 240)), 0o755), unix.EPERM},
		"create an escape":          {open(p("%tf-long-"+strings.Repeat("x", 240)), unix.O_CREAT|unix.O_WRONLY), unix.EPERM},
		"a file named %tf-empty":    {open(p("%tf-empty"), unix.O_CREAT|unix.O_WRONLY), unix.EINVAL},
		"%tf-file- of no directory": {open(p("%tf-file-q"), unix.O_CREAT|unix.O_WRONLY), unix.EINVAL},
		"rmdir of a full one":       {unix.Rmdir(p("dir")), unix.ENOTEMPTY},
		"rmdir of a file":           {unix.Rmdir(p("file")), unix.ENOTDIR},
		"rmdir of a full bucket":    {unix.Rmdir(p()), unix.ENOTEMPTY},
		"unlink of a directory":     {unix.Unlink(p("dir")), unix.EISDIR},
		"unlink of nothing":         {unix.Unlink(p("none")), unix.ENOENT},
		"rename nothing":            {unix.Rename(p("none"), p("x")), unix.ENOENT},
		"rename over a full one":    {unix.Rename(p("dir"), p("dir2")), unix.ENOTEMPTY},
		"rename a dir over a file":  {unix.Rename(p("dir"), p("file")), unix.ENOTDIR},
		"rename a file over a dir":  {unix.Rename(p("file"), p("dir")), unix.EISDIR},
		"rename into itself":        {unix.Rename(p("dir"), p("dir", "sub", "x")), unix.EINVAL},
		"rename to another bucket":  {unix.Rename(p("file"), s.Path("other", "file")), unix.EXDEV},
		"rename NOREPLACE":          {unix.Renameat2(unix.AT_FDCWD, p("dir", "sub"), unix.AT_FDCWD, p("file"), unix.RENAME_NOREPLACE), unix.EEXIST},
		"link to another bucket":    {unix.Link(p("file"), s.Path("other", "file")), unix.EXDEV},
		"link of a directory":       {unix.Link(p("dir"), p("x")), unix.EPERM},
		"link over a file":          {unix.Link(p("file"), p("loop")), unix.EEXIST},
		"readlink of a file":        {second(unix.Readlink(p("file"), buf)), unix.EINVAL},
		"truncate below zero":       {unix.Ftruncate(fd, -1), unix.EINVAL},
		"truncate a directory":      {unix.Truncate(p("dir"), 0), unix.EISDIR},
		"read a directory":          {readDir(p("dir")), unix.EISDIR},
		"no attribute":              {second(unix.Getxattr(p("file"), "user.none", buf)), unix.ENODATA},
		"remove no attribute":       {unix.Removexattr(p("file"), "user.none"), unix.ENODATA},
		"attribute is there":        {twice(p("file")), unix.EEXIST},
		"replace no attribute":      {unix.Setxattr(p("file"), "user.none", buf, unix.XATTR_REPLACE), unix.ENODATA},
		"a bad ACL":                 {unix.Setxattr(p("file"), "system.posix_acl_access", []byte{2, 0, 0, 0, 1}, 0), unix.EINVAL},
		"no ACL":                    {second(unix.Getxattr(p("file"), "system.posix_acl_access", buf)), unix.ENODATA},
		"a long ACL":                {unix.Setxattr(p("file"), "system.posix_acl_access", longACL(), 0), unix.E2BIG},
		"a bucket's bad name":       {unix.Mkdir(s.Path("Bad_Name"), 0o755), unix.EINVAL},
		"a bucket that is there":    {unix.Mkdir(s.Path("bkt"), 0o755), unix.EEXIST},
		"a file beside the buckets": {open(s.Path("file"), unix.O_CREAT|unix.O_WRONLY), unix.EPERM},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	s.wantList("bkt", "", "dir/", "dir/sub/", "dir2/", "dir2/sub/", "file", "loop")
	s.wantObject("bkt", "file", []byte("x"))
}

// longACL is valid, but longer than the kernel has room for in its questions.
func longACL() []byte {
	list := acl.ACL{{Tag: acl.UserObj, ID: acl.NoID}}
	for n := range acl.MaxLen / 8 {
		list = append(list, acl.Entry{Tag: acl.User, ID: uint32(n)})
	}
	return append(list, acl.Entry{Tag: acl.GroupObj, ID: acl.NoID}, acl.Entry{Tag: acl.Mask, ID: acl.NoID}, acl.Entry{Tag: acl.Other, ID: acl.NoID}).Encode()
}

func second(_ int, err error) error { return err }

func readDir(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return second(unix.Read(fd, make([]byte, 8)))
}

func twice(path string) error {
	if err := unix.Setxattr(path, "user.twice", []byte("x"), unix.XATTR_CREATE); err != nil {
		return err
	}
	return unix.Setxattr(path, "user.twice", []byte("x"), unix.XATTR_CREATE)
}
