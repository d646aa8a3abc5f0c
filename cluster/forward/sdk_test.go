package forward_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"

	"twofold/bench"
	"twofold/cluster/forward"
	"twofold/cluster/node"
	"twofold/cluster/rpc"
	"twofold/engine/placement"
	"twofold/s3"
)

const (
	user     = "AKIDTEST"
	password = "a/secret+with/odd=characters"
)

type creds struct{}

func (creds) Lookup(k string) (string, bool) { return password, k == user }

// store serves a real store at one port, and through another node at a second one.
func store(t testing.TB) (direct, front *httptest.Server) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	layout, err := placement.New([]string{t.TempDir() + "/drive"}, placement.Classes{})
	noErr(t, err)
	n, err := node.Open(t.Context(), node.Options{Layout: layout, Logger: log, Say: func(string) {}})
	noErr(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	handler := s3.New(s3.Config{Volume: n.Volume(), Credentials: creds{}, Domains: []string{"s3.local.test"}, Logger: log})
	t.Cleanup(func() { handler.Close() })
	secret, err := rpc.NewSecret(user, password)
	noErr(t, err)
	never := make(chan struct{})
	open := func(where func() (string, bool, <-chan struct{})) *httptest.Server {
		h, err := forward.New(forward.Options{Where: where, Here: handler, Secret: secret, Logger: log})
		noErr(t, err)
		srv := httptest.NewUnstartedServer(h)
		addr := srv.Config.Addr
		srv.Config = s3.HTTPServer(h, log)
		srv.Config.Addr = addr
		srv.Start()
		t.Cleanup(srv.Close)
		t.Cleanup(h.Close)
		return srv
	}
	direct = open(func() (string, bool, <-chan struct{}) { return "", true, never })
	front = open(func() (string, bool, <-chan struct{}) { return direct.URL, false, never })
	return direct, front
}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func data(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func client(srv *httptest.Server, opts ...func(*awss3.Options)) *awss3.Client {
	return awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.URL), UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(user, password, ""),
		Retryer:                    aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}, opts...)
}

// TestAWS: what the SDK signs, and how it sends it, is good at the leading node.
func TestAWS(t *testing.T) {
	_, srv := store(t)
	ctx := t.Context()
	c := client(srv)
	bucket := aws.String("bucket")
	_, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: bucket})
	noErr(t, err)
	for _, key := range []string{"plain", "a/b c+d%20/ü?&=", "tilde~(paren)*'!"} {
		for _, size := range []int{0, 1, 4096, 1 << 20, 3 << 20} {
			in := data(size)
			_, err := c.PutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: aws.String(key), Body: bytes.NewReader(in), Metadata: map[string]string{"k": "v"}})
			if err != nil {
				t.Fatalf("%q, %d bytes: %v", key, size, err)
			}
			out, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: aws.String(key), ChecksumMode: types.ChecksumModeEnabled})
			noErr(t, err)
			back, err := io.ReadAll(out.Body)
			noErr(t, err)
			if !bytes.Equal(back, in) || out.Metadata["k"] != "v" {
				t.Fatalf("%q, %d bytes: %d came back", key, size, len(back))
			}
		}
	}
	k := aws.String("plain") // 3 MiB
	for _, algo := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha256} {
		_, err = c.PutObject(ctx, &awss3.PutObjectInput{Bucket: bucket, Key: aws.String("sum"), Body: bytes.NewReader(data(200 << 10)), ChecksumAlgorithm: algo})
		noErr(t, err)
	}
	out, err := c.GetObject(ctx, &awss3.GetObjectInput{Bucket: bucket, Key: k, Range: aws.String("bytes=1000-2000")})
	noErr(t, err)
	if back, err := io.ReadAll(out.Body); err != nil || !bytes.Equal(back, data(3 << 20)[1000:2001]) {
		t.Fatal("range differs", err)
	}
	head, err := c.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: bucket, Key: k})
	noErr(t, err)
	if *head.ContentLength != 3<<20 {
		t.Fatal(*head.ContentLength)
	}
	for _, in := range []*awss3.GetObjectInput{
		{Bucket: bucket, Key: k, IfNoneMatch: head.ETag},
		{Bucket: bucket, Key: k, IfMatch: aws.String(`"other"`)},
		{Bucket: bucket, Key: aws.String("none")},
	} {
		if _, err := c.GetObject(ctx, in); err == nil {
			t.Fatal("no error")
		}
	}
	_, err = c.CopyObject(ctx, &awss3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("bucket/plain")})
	noErr(t, err)
	list, err := c.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: bucket})
	noErr(t, err)
	if len(list.Contents) != 5 {
		t.Fatalf("%d keys", len(list.Contents))
	}

	up, err := c.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("multi")})
	noErr(t, err)
	var parts []types.CompletedPart
	for i, size := range []int{5 << 20, 100} {
		p, err := c.UploadPart(ctx, &awss3.UploadPartInput{Bucket: bucket, Key: aws.String("multi"), UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(data(size))})
		noErr(t, err)
		parts = append(parts, types.CompletedPart{ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, PartNumber: aws.Int32(int32(i + 1))})
	}
	_, err = c.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{Bucket: bucket, Key: aws.String("multi"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	noErr(t, err)
	_, err = c.DeleteObjects(ctx, &awss3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("copy")}, {Key: aws.String("multi")}}}})
	noErr(t, err)
	_, err = c.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: k})
	noErr(t, err)
}

// TestPresigned: a URL is good at whichever node it was made for.
func TestPresigned(t *testing.T) {
	_, srv := store(t)
	ctx := t.Context()
	c := client(srv)
	_, err := c.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: aws.String("bucket")})
	noErr(t, err)
	p := awss3.NewPresignClient(c)
	put, err := p.PresignPutObject(ctx, &awss3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("pre signed/ü")})
	noErr(t, err)
	get, err := p.PresignGetObject(ctx, &awss3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("pre signed/ü")})
	noErr(t, err)
	for _, x := range []struct{ method, url, body, want string }{{"PUT", put.URL, "hello", ""}, {"GET", get.URL, "", "hello"}, {"GET", get.URL + "0", "", "SignatureDoesNotMatch"}} {
		req, err := http.NewRequest(x.method, x.url, strings.NewReader(x.body))
		noErr(t, err)
		resp, err := http.DefaultClient.Do(req)
		noErr(t, err)
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(b), x.want) || x.want == "" && resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s %v", x.method, resp.StatusCode, b, err)
		}
	}
}

// TestMinio: signed chunks, and trailers, in bodies of all kinds.
func TestMinio(t *testing.T) {
	_, srv := store(t)
	ctx := t.Context()
	for _, trailing := range []bool{false, true} {
		c, err := minio.New(strings.TrimPrefix(srv.URL, "http://"), &minio.Options{
			Creds: miniocreds.NewStaticV4(user, password, ""), Region: "us-east-1", TrailingHeaders: trailing, MaxRetries: 1})
		noErr(t, err)
		if ok, _ := c.BucketExists(ctx, "bucket"); !ok {
			noErr(t, c.MakeBucket(ctx, "bucket", minio.MakeBucketOptions{}))
		}
		for name, opts := range map[string]minio.PutObjectOptions{
			"plain":     {},
			"md5":       {SendContentMd5: true, DisableMultipart: true},
			"multipart": {PartSize: 5 << 20},
			"crc32c":    {Checksum: minio.ChecksumCRC32C, PartSize: 5 << 20},
		} {
			if opts.Checksum.IsSet() && !trailing {
				continue // the client refuses
			}
			for _, size := range []int{0, 5, 100 << 10, 6 << 20} {
				in := data(size)
				if _, err := c.PutObject(ctx, "bucket", "x/"+name, bytes.NewReader(in), int64(size), opts); err != nil {
					t.Fatalf("trailing %v, %s, %d: %v", trailing, name, size, err)
				}
				o, err := c.GetObject(ctx, "bucket", "x/"+name, minio.GetObjectOptions{})
				noErr(t, err)
				back, err := io.ReadAll(o)
				noErr(t, err)
				if !bytes.Equal(back, in) {
					t.Fatalf("%s differs", name)
				}
			}
		}
	}
}

// BenchmarkForward compares a request at the leading node with one through another node,
// both in this process, with 32 clients, and what else is done the same.
func BenchmarkForward(b *testing.B) {
	direct, front := store(b)
	for _, size := range []int{4 << 10, 8 << 20} {
		clients := 32
		if size > 1<<20 {
			clients = 4
		}
		body := data(size)
		for _, x := range []struct {
			name string
			srv  *httptest.Server
		}{{"direct", direct}, {"forwarded", front}} {
			c := bench.NewS3(x.srv.URL, user, password, "us-east-1")
			_ = c.MakeBucket(b.Context(), "bucket") // may be there
			run := func(op string, do func(key string) error) {
				b.Run(fmt.Sprintf("%s/%d/%s", op, size, x.name), func(b *testing.B) {
					b.SetBytes(int64(size))
					b.SetParallelism(max(1, clients/runtime.GOMAXPROCS(0)))
					b.RunParallel(func(pb *testing.PB) {
						key := fmt.Sprintf("%s-%d", x.name, rand.IntN(clients))
						for pb.Next() {
							if err := do(key); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
			for i := range clients {
				if err := c.Put(b.Context(), "bucket", fmt.Sprintf("%s-%d", x.name, i), body); err != nil {
					b.Fatal(err)
				}
			}
			run("PUT", func(key string) error { return c.Put(b.Context(), "bucket", key, body) })
			run("GET", func(key string) error { return c.Get(b.Context(), "bucket", key, int64(size)) })
		}
	}
}
