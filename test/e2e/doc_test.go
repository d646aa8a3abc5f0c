// Package e2e tests the real program from outside, as its users meet it: the binary,
// clients that others wrote, a mount in the kernel. What a test knows of the inside is
// where a drive keeps its blobs.
package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is n bytes that do not compress and that the seed decides.
func content(seed byte, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	r.Read(b)
	return b
}

// store is a running server with what the tests do with it most often.
type store struct {
	*harness.Server
	t *testing.T
	c *s3.Client
}

func newStore(t *testing.T, opts ...harness.Option) *store {
	t.Helper()
	harness.NeedMount(t)
	s := harness.Start(t, 4, append([]harness.Option{harness.WithMount()}, opts...)...)
	return &store{Server: s, t: t, c: s.S3()}
}

// in is the same store for a subtest.
func (s *store) in(t *testing.T) *store { return &store{Server: s.Server, t: t, c: s.c} }

// Run is harness's, with the failure on the subtest.
func (s *store) Run(name string, args ...string) string {
	s.t.Helper()
	began := time.Now()
	out, err := s.Try(name, args...)
	if took := time.Since(began); took > 5*time.Second {
		s.t.Logf("%s %s took %v", name, strings.Join(args, " "), took)
	}
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s *store) bucket(name string) {
	s.t.Helper()
	_, err := s.c.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name})
	noErr(s.t, err)
}

func (s *store) put(bucket, key string, data []byte) {
	s.t.Helper()
	_, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(data)})
	if err != nil {
		s.t.Fatalf("PUT %s/%q: %v", bucket, key, err)
	}
}

// get is a GET of the whole object.
func (s *store) get(bucket, key string) []byte {
	s.t.Helper()
	b, err := s.tryGet(bucket, key)
	if err != nil {
		s.t.Fatalf("GET %s/%q: %v", bucket, key, err)
	}
	return b
}

func (s *store) tryGet(bucket, key string) ([]byte, error) {
	o, err := s.c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

func (s *store) delete(bucket, key string) {
	s.t.Helper()
	_, err := s.c.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		s.t.Fatalf("DELETE %s/%q: %v", bucket, key, err)
	}
}

// list is every key under a prefix.
func (s *store) list(bucket, prefix string) []string {
	s.t.Helper()
	var keys []string
	p := s3.NewListObjectsV2Paginator(s.c, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for p.HasMorePages() {
		page, err := p.NextPage(context.Background())
		if err != nil {
			s.t.Fatalf("LIST %s/%q: %v", bucket, prefix, err)
		}
		for _, o := range page.Contents {
			keys = append(keys, aws.ToString(o.Key))
		}
	}
	return keys
}

func (s *store) wantList(bucket, prefix string, want ...string) {
	s.t.Helper()
	got := s.list(bucket, prefix)
	sort.Strings(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Fatalf("LIST %s/%s: %q, want %q", bucket, prefix, got, want)
	}
}

func (s *store) wantObject(bucket, key string, want []byte) {
	s.t.Helper()
	same(s.t, "GET "+bucket+"/"+key, s.get(bucket, key), want)
}

func (s *store) wantNoObject(bucket, key string) {
	s.t.Helper()
	if b, err := s.tryGet(bucket, key); err == nil || !strings.Contains(err.Error(), "NoSuchKey") {
		s.t.Fatalf("GET %s/%q: %d bytes, %v; want NoSuchKey", bucket, key, len(b), err)
	}
}

func (s *store) wantFile(want []byte, elem ...string) {
	s.t.Helper()
	b, err := os.ReadFile(s.Path(elem...))
	noErr(s.t, err)
	same(s.t, filepath.Join(elem...), b, want)
}

func (s *store) wantNoFile(elem ...string) {
	s.t.Helper()
	if _, err := os.Lstat(s.Path(elem...)); !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatalf("%s: %v, want ENOENT", filepath.Join(elem...), err)
	}
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	t.Fatalf("%s: %d bytes, want %d; the first difference is at %d: %.40q, want %.40q", what, len(got), len(want), i, got[i:], want[i:])
}

// sample is what the clients' daily work is done with: one file that takes several
// parts, an empty one, names that have to be escaped somewhere.
var sample = map[string]int{
	"readme.txt": 1200, "empty": 0, "big.bin": 24 << 20, "docs/with space & plus+.txt": 17, "docs/sub/größe %41.bin": 300 << 10, "docs/sub/x=y?z#.txt": 5,
}

// sampleDir writes the sample, each file with content of its own.
func sampleDir(t testing.TB, seed byte) string {
	t.Helper()
	dir := t.TempDir()
	i := seed
	for _, name := range sampleNames() {
		p := filepath.Join(dir, name)
		noErr(t, os.MkdirAll(filepath.Dir(p), 0o755))
		noErr(t, os.WriteFile(p, content(i, sample[name]), 0o644))
		i++
	}
	return dir
}

func sampleNames() []string {
	var names []string
	for n := range sample {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// sameTree fails unless two directories hold the same names, types and bytes.
func sameTree(t testing.TB, got, want string) {
	t.Helper()
	g, w := treeOf(t, got), treeOf(t, want)
	for n, sum := range w {
		if g[n] != sum {
			t.Errorf("%s: %s is %q, in %s %q", got, n, g[n], want, sum)
		}
	}
	for n := range g {
		if _, ok := w[n]; !ok {
			t.Errorf("%s has %s, which %s has not", got, n, want)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func treeOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	noErr(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			m[rel] = "directory"
		case d.Type() == fs.ModeSymlink:
			m[rel], err = os.Readlink(p)
		default:
			var b []byte
			b, err = os.ReadFile(p)
			m[rel] = fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b))
		}
		return err
	}))
	return m
}

// unescapeKey reads a key of a listing with encoding-type=url.
func unescapeKey(k string) string {
	u, err := url.QueryUnescape(k)
	if err != nil {
		return "bad escape in " + k
	}
	return u
}
