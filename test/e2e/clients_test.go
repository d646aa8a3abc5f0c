package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"

	"twofold/test/harness"
)

// The daily work of each client, and after each of its changes the same seen in the
// mount. They run one after the other on one store: together they also leave it full
// of what all of them write.
func TestClients(t *testing.T) {
	s := newStore(t)
	for _, c := range []struct {
		name string
		run  func(*store)
	}{
		{"aws-cli", awsCLI}, {"boto3", boto3}, {"aws-sdk-go-v2", sdkGo}, {"minio-go", minioGo}, {"rclone", rclone}, {"s3cmd", s3cmd},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(s.in(t)) })
	}
}

func awsCLI(s *store) {
	harness.Need(s.t, "aws")
	endpoint := "--endpoint-url=" + s.URL("")
	aws := func(args ...string) string { return s.Run("aws", append([]string{endpoint, "s3"}, args...)...) }
	api := func(args ...string) string { return s.Run("aws", append([]string{endpoint, "s3api"}, args...)...) }
	src, quiet := sampleDir(s.t, 1), "--only-show-errors"

	aws("mb", "s3://cli-bucket")
	if out := aws("ls"); !strings.Contains(out, "cli-bucket") {
		s.t.Fatalf("ls: %s", out)
	}
	aws("sync", quiet, src, "s3://cli-bucket/tree")
	sameTree(s.t, s.Path("cli-bucket", "tree"), src)
	if out := aws("sync", src, "s3://cli-bucket/tree"); out != "" {
		s.t.Fatalf("the second sync transferred: %s", out)
	}
	// What the mount changes, sync takes; what it deletes, sync deletes.
	noErr(s.t, os.WriteFile(s.Path("cli-bucket", "tree", "docs", "new.txt"), []byte("from the mount"), 0o644))
	noErr(s.t, os.Remove(s.Path("cli-bucket", "tree", "empty")))
	dst := s.t.TempDir()
	aws("sync", quiet, "--delete", "s3://cli-bucket/tree", dst)
	sameTree(s.t, s.Path("cli-bucket", "tree"), dst)

	aws("cp", quiet, "--metadata", "colour=blue", filepath.Join(src, "readme.txt"), "s3://cli-bucket/one")
	if out := api("head-object", "--bucket", "cli-bucket", "--key", "one", "--query", "Metadata.colour", "--output", "text"); strings.TrimSpace(out) != "blue" {
		s.t.Fatalf("metadata: %s", out)
	}
	aws("cp", quiet, "s3://cli-bucket/tree/big.bin", "s3://cli-bucket/copy.bin") // by UploadPartCopy
	s.wantFile(content(1, sample["big.bin"]), "cli-bucket", "copy.bin")
	aws("mv", quiet, "s3://cli-bucket/one", "s3://cli-bucket/moved")
	s.wantNoFile("cli-bucket", "one")
	if got := aws("cp", quiet, "s3://cli-bucket/moved", "-"); got != string(s.get("cli-bucket", "moved")) || len(got) != 1200 {
		s.t.Fatalf("cp to stdout: %d bytes", len(got))
	}
	part := filepath.Join(s.t.TempDir(), "part")
	api("get-object", "--bucket", "cli-bucket", "--key", "tree/big.bin", "--range", "bytes=8388600-8388619", part)
	b, err := os.ReadFile(part)
	noErr(s.t, err)
	same(s.t, "range", b, content(1, sample["big.bin"])[8388600:8388620])
	// Version 1 of the CLI signs URLs in the old way unless told not to.
	noErr(s.t, os.WriteFile(filepath.Join(s.Dir, "aws-config"), []byte("[default]\ns3 =\n    signature_version = s3v4\n"), 0o600))
	u := s.Run("env", "AWS_CONFIG_FILE="+filepath.Join(s.Dir, "aws-config"), "aws", endpoint, "s3", "presign", "s3://cli-bucket/copy.bin")
	s.fetched(strings.TrimSpace(u), content(1, sample["big.bin"]))
	aws("rm", quiet, "--recursive", "s3://cli-bucket/tree")
	s.wantList("cli-bucket", "", "copy.bin", "moved")
	s.Run("rm", s.Path("cli-bucket", "copy.bin"))
	aws("rb", "--force", "s3://cli-bucket")
	s.wantNoFile("cli-bucket")
}

// fetched gets a presigned URL.
func (s *store) fetched(url string, want []byte) {
	s.t.Helper()
	r, err := harness.Fetch(url)
	noErr(s.t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	noErr(s.t, err)
	if r.StatusCode != 200 {
		s.t.Fatalf("%s: %s\n%s", url, r.Status, b)
	}
	same(s.t, "presigned GET", b, want)
}

// upload PUTs to a presigned URL.
func (s *store) upload(url string, data []byte) {
	s.t.Helper()
	req, err := http.NewRequest("PUT", url, bytes.NewReader(data))
	noErr(s.t, err)
	r, err := http.DefaultClient.Do(req)
	noErr(s.t, err)
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); r.StatusCode != 200 {
		s.t.Fatalf("%s: %s\n%s", url, r.Status, b)
	}
}

func boto3(s *store) {
	harness.Need(s.t, "python3")
	if out, err := s.Try("python3", "-c", "import boto3"); err != nil {
		s.t.Skipf("boto3 is not installed: run scripts/test-deps\n%s", out)
	}
	wd, err := os.Getwd()
	noErr(s.t, err)
	s.t.Log(s.Run("python3", filepath.Join(wd, "testdata", "boto3_daily.py")))
}

func sdkGo(s *store) {
	ctx, c, b := context.Background(), s.c, aws.String("sdk-go")
	s.bucket(*b)
	_, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: b})
	noErr(s.t, err)

	big := content(3, 21<<20)
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("big"), Body: bytes.NewReader(big), ContentType: aws.String("video/mp4"),
		Metadata: map[string]string{"colour": "red"}})
	noErr(s.t, err)
	s.wantFile(big, *b, "big")
	h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("big")})
	noErr(s.t, err)
	if h.Metadata["colour"] != "red" || *h.ContentType != "video/mp4" || *h.ContentLength != 21<<20 {
		s.t.Fatalf("HEAD: %v", h)
	}
	r, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("big"), Range: aws.String("bytes=1048570-2097160")})
	noErr(s.t, err)
	got, err := io.ReadAll(r.Body)
	noErr(s.t, err)
	same(s.t, "range", got, big[1048570:2097161])

	s.multipart(*b, "dir/parts", content(4, 22<<20), 5<<20)
	s.wantFile(content(4, 22<<20), *b, "dir", "parts")
	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy of ü"), CopySource: aws.String(url.PathEscape("sdk-go/dir/parts"))})
	noErr(s.t, err)
	s.wantFile(content(4, 22<<20), *b, "copy of ü")

	p := s3.NewPresignClient(c)
	g, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("copy of ü")})
	noErr(s.t, err)
	s.fetched(g.URL, content(4, 22<<20))
	w, err := p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("presigned")}, s3.WithPresignExpires(time.Minute))
	noErr(s.t, err)
	s.upload(w.URL, []byte("by URL"))
	s.wantFile([]byte("by URL"), *b, "presigned")

	// More keys than a page holds, made in the mount.
	noErr(s.t, os.Mkdir(s.Path(*b, "many"), 0o755))
	for i := range 1100 {
		noErr(s.t, os.WriteFile(s.Path(*b, "many", fmt.Sprintf("%04d", i)), nil, 0o644))
	}
	keys := s.list(*b, "many/")
	if len(keys) != 1101 || keys[0] != "many/" || keys[1100] != "many/1099" {
		s.t.Fatalf("%d keys: %q ... %q", len(keys), keys[0], keys[len(keys)-1])
	}
	var del []types.ObjectIdentifier
	for _, k := range keys[1:1001] {
		del = append(del, types.ObjectIdentifier{Key: &k})
	}
	d, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: del}})
	if err != nil || len(d.Deleted) != 1000 || len(d.Errors) != 0 {
		s.t.Fatalf("DeleteObjects: %v %v", d, err)
	}
	names, err := os.ReadDir(s.Path(*b, "many"))
	if err != nil || len(names) != 100 || names[0].Name() != "1000" {
		s.t.Fatalf("%d names are left, %v", len(names), err)
	}
}

// multipart uploads data in parts.
func (s *store) multipart(bucket, key string, data []byte, size int) {
	s.t.Helper()
	ctx := context.Background()
	up, err := s.c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key})
	noErr(s.t, err)
	var parts []types.CompletedPart
	for n := int32(1); len(data) > 0; n++ {
		p := data[:min(size, len(data))]
		data = data[len(p):]
		r, err := s.c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(p)})
		noErr(s.t, err)
		parts = append(parts, types.CompletedPart{PartNumber: &n, ETag: r.ETag, ChecksumCRC32: r.ChecksumCRC32})
	}
	_, err = s.c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	noErr(s.t, err)
}

func minioGo(s *store) {
	ctx, c, b := context.Background(), s.Minio(s.t), "minio-go"
	noErr(s.t, c.MakeBucket(ctx, b, minio.MakeBucketOptions{}))
	if ok, err := c.BucketExists(ctx, b); err != nil || !ok {
		s.t.Fatalf("BucketExists: %v %v", ok, err)
	}
	src := sampleDir(s.t, 20)
	for _, name := range sampleNames() {
		_, err := c.FPutObject(ctx, b, name, filepath.Join(src, name), minio.PutObjectOptions{PartSize: 5 << 20, UserMetadata: map[string]string{"Name": "plain"}})
		noErr(s.t, err)
	}
	sameTree(s.t, s.Path(b), src)
	stat, err := c.StatObject(ctx, b, "big.bin", minio.StatObjectOptions{})
	if err != nil || stat.Size != 24<<20 || stat.UserMetadata["Name"] != "plain" || !strings.HasSuffix(stat.ETag, "-5") {
		s.t.Fatalf("stat: %+v %v", stat, err)
	}
	// Of unknown length: a stream in parts.
	stream := content(30, 17<<20)
	_, err = c.PutObject(ctx, b, "stream", io.MultiReader(bytes.NewReader(stream)), -1, minio.PutObjectOptions{PartSize: 8 << 20})
	noErr(s.t, err)
	s.wantFile(stream, b, "stream")
	o, err := c.GetObject(ctx, b, "stream", minio.GetObjectOptions{})
	noErr(s.t, err)
	part := make([]byte, 100)
	_, err = o.ReadAt(part, 9<<20-50)
	noErr(s.t, err)
	same(s.t, "ReadAt", part, stream[9<<20-50:9<<20+50])
	_, err = c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: b, Object: "composed"},
		minio.CopySrcOptions{Bucket: b, Object: "stream"}, minio.CopySrcOptions{Bucket: b, Object: "readme.txt"})
	noErr(s.t, err)
	s.wantFile(append(stream[:len(stream):len(stream)], s.get(b, "readme.txt")...), b, "composed")
	u, err := c.PresignedGetObject(ctx, b, "stream", time.Minute, nil)
	noErr(s.t, err)
	s.fetched(u.String(), stream)
	objects := make(chan minio.ObjectInfo)
	n := 0
	go func() {
		defer close(objects)
		for o := range c.ListObjects(ctx, b, minio.ListObjectsOptions{Recursive: true}) {
			n++
			objects <- o
		}
	}()
	for e := range c.RemoveObjects(ctx, b, objects, minio.RemoveObjectsOptions{}) {
		s.t.Fatal(e.Err)
	}
	if n != len(sample)+2 {
		s.t.Fatalf("listed %d", n)
	}
	// The directories were implied: nothing is left, and the bucket goes.
	noErr(s.t, c.RemoveBucket(ctx, b))
	s.wantNoFile(b)
}

func rclone(s *store) {
	harness.Need(s.t, "rclone")
	run := func(args ...string) string {
		// Sizes that make parts of a 24 MiB file.
		return s.Run("env", append([]string{"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Minio", "RCLONE_CONFIG_S_ENV_AUTH=true",
			"RCLONE_CONFIG_S_ENDPOINT=" + s.URL(""), "RCLONE_CONFIG_S_REGION=us-east-1", "RCLONE_S3_UPLOAD_CUTOFF=5M", "RCLONE_S3_CHUNK_SIZE=5M", "rclone", "--retries=1"}, args...)...)
	}
	src := sampleDir(s.t, 40)
	noErr(s.t, os.Chtimes(filepath.Join(src, "readme.txt"), time.Unix(1e9, 0), time.Unix(1e9, 123456789)))
	run("mkdir", "s:rclone-bucket")
	run("sync", src, "s:rclone-bucket/tree")
	sameTree(s.t, s.Path("rclone-bucket", "tree"), src)
	if fi, err := os.Stat(s.Path("rclone-bucket", "tree", "readme.txt")); err != nil || !fi.ModTime().Equal(time.Unix(1e9, 123456789)) {
		s.t.Fatalf("the mtime of x-amz-meta-mtime: %v %v", fi, err)
	}
	run("check", src, "s:rclone-bucket/tree")
	if out := run("sync", "-v", "--stats-one-line", src, "s:rclone-bucket/tree"); !strings.Contains(out, "nothing to transfer") {
		s.t.Fatalf("the second sync transferred:\n%s", out)
	}
	noErr(s.t, os.Rename(s.Path("rclone-bucket", "tree", "docs"), s.Path("rclone-bucket", "tree", "papers")))
	noErr(s.t, os.Rename(filepath.Join(src, "docs"), filepath.Join(src, "papers")))
	run("check", src, "s:rclone-bucket/tree")
	if out := run("cat", "--offset", "5242870", "--count", "20", "s:rclone-bucket/tree/big.bin"); out != string(content(40, 24<<20)[5242870:5242890]) {
		s.t.Fatalf("cat: %q", out)
	}
	run("moveto", "s:rclone-bucket/tree/big.bin", "s:rclone-bucket/moved.bin")
	s.wantFile(content(40, 24<<20), "rclone-bucket", "moved.bin")
	run("copyto", "s:rclone-bucket/moved.bin", "s:rclone-bucket/copied.bin")
	if out := run("lsf", "-R", "s:rclone-bucket"); !strings.Contains(out, "tree/papers/sub/größe %41.bin\n") || !strings.Contains(out, "copied.bin\n") {
		s.t.Fatalf("lsf: %s", out)
	}
	s.fetched(strings.TrimSpace(run("link", "--expire", "1m", "s:rclone-bucket/copied.bin")), content(40, 24<<20))
	// What has come by the mount goes the other way.
	back := s.t.TempDir()
	noErr(s.t, os.WriteFile(s.Path("rclone-bucket", "tree", "written"), content(50, 7<<20), 0o644))
	run("copy", "s:rclone-bucket/tree", back)
	sameTree(s.t, s.Path("rclone-bucket", "tree"), back)
	run("delete", "s:rclone-bucket/tree")
	// Older versions of rclone do not see the keys of directories that were made
	// explicit in the mount, here by the rename and the write.
	s.Run("rmdir", s.Path("rclone-bucket", "tree", "papers"), s.Path("rclone-bucket", "tree"))
	run("purge", "s:rclone-bucket")
	s.wantNoFile("rclone-bucket")
}

func s3cmd(s *store) {
	harness.Need(s.t, "s3cmd")
	conf := filepath.Join(s.t.TempDir(), "s3cfg")
	noErr(s.t, os.WriteFile(conf, fmt.Appendf(nil, "[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\nsignature_v2 = False\n",
		harness.User, harness.Password, s.Address, s.Address), 0o600))
	run := func(args ...string) string {
		return s.Run("s3cmd", append([]string{"-c", conf, "--no-progress", "--multipart-chunk-size-mb=5"}, args...)...)
	}
	src := sampleDir(s.t, 60)
	run("mb", "s3://s3cmd-bucket")
	run("sync", src+"/", "s3://s3cmd-bucket/tree/")
	sameTree(s.t, s.Path("s3cmd-bucket", "tree"), src)
	if out := run("sync", src+"/", "s3://s3cmd-bucket/tree/"); strings.Contains(out, "upload:") {
		s.t.Fatalf("the second sync transferred: %s", out)
	}
	run("put", "--add-header=x-amz-meta-colour:green", filepath.Join(src, "readme.txt"), "s3://s3cmd-bucket/one")
	if out := run("info", "s3://s3cmd-bucket/one"); !strings.Contains(out, "green") {
		s.t.Fatalf("info: %s", out)
	}
	run("mv", "s3://s3cmd-bucket/one", "s3://s3cmd-bucket/two")
	run("cp", "s3://s3cmd-bucket/two", "s3://s3cmd-bucket/three")
	s.wantNoFile("s3cmd-bucket", "one")
	s.wantFile(s.get("s3cmd-bucket", "two"), "s3cmd-bucket", "three")
	noErr(s.t, os.WriteFile(s.Path("s3cmd-bucket", "tree", "from-the-mount"), content(70, 6<<20), 0o644))
	back := s.t.TempDir()
	run("get", "--recursive", "s3://s3cmd-bucket/tree/", back)
	sameTree(s.t, back, s.Path("s3cmd-bucket", "tree"))
	if out := run("ls", "s3://s3cmd-bucket"); !strings.Contains(out, "s3://s3cmd-bucket/tree/") || !strings.Contains(out, "s3://s3cmd-bucket/two") {
		s.t.Fatalf("ls: %s", out)
	}
	// s3cmd's signurl makes URLs of the old signature only: not served, and said so.
	if r, err := harness.Fetch(strings.TrimSpace(run("signurl", "s3://s3cmd-bucket/tree/big.bin", "+60"))); err != nil || r.StatusCode != 400 {
		s.t.Fatalf("a URL with signature version 2: %v %v", r, err)
	}
	run("del", "--recursive", "--force", "s3://s3cmd-bucket")
	run("rb", "s3://s3cmd-bucket")
	s.wantNoFile("s3cmd-bucket")
}
