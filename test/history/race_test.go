package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// big is a content of several requests: megabytes, each of which says its version.
const (
	bigCell  = 256 << 10
	bigCells = 16
)

func bucketOf(t *testing.T, r *rig, name string) (dirs []string) {
	t.Helper()
	if _, err := r.s3.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.mounts {
		dirs = append(dirs, filepath.Join(m.dir, name))
	}
	return dirs
}

func putBytes(r *rig, bucket, key string, b []byte, change func(*s3.PutObjectInput)) error {
	in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(b)}
	if change != nil {
		change(in)
	}
	_, err := r.s3.PutObject(context.Background(), in)
	return err
}

func getBig(r *rig, bucket, key string) (content, error) {
	out, err := r.s3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		return "", err
	}
	return parse(b, bigCell)
}

// TestOneVersionWhole: while an object of megabytes is written again and again, through
// either view, each GET is of one moment, and an open file of one PUT.
func TestOneVersionWhole(t *testing.T) {
	r := newRig(t, rigOptions{mounts: 2, behind: true})
	dirs := bucketOf(t, r, "whole")
	const rounds = 6
	for _, key := range []string{"put", "written"} {
		if err := putBytes(r, "whole", key, fill(1, bigCells).render(bigCell), nil); err != nil {
			t.Fatal(err)
		}
	}
	var wg, writers sync.WaitGroup
	done := make(chan struct{})
	writers.Go(func() {
		for v := range uint32(rounds) {
			if err := putBytes(r, "whole", "put", fill(v+2, bigCells).render(bigCell), nil); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Go(func() { // from the start to the end, one write(2) after the other
		f, err := os.OpenFile(filepath.Join(dirs[0], "written"), os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for v := range uint32(rounds) {
			for i := range bigCells {
				if _, err := f.WriteAt(fill(v+2, 1).render(bigCell), int64(i*bigCell)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	var looks atomic.Int64
	look := func(what string, one func() (content, error), right func(content) bool) {
		wg.Go(func() {
			for n := 0; ; n++ {
				c, err := one()
				if err != nil || c.len() != bigCells || !right(c) {
					t.Errorf("%s: %v, %v", what, c, err)
					return
				}
				looks.Add(1)
				select {
				case <-done:
					if n > 0 {
						return
					}
				default:
				}
			}
		})
	}
	whole := func(c content) bool { return c == fill(c.at(0).body, bigCells) }
	// One moment of a write from start to end: a version, and behind it the one before.
	moment := func(c content) bool {
		for i := 1; i < c.len(); i++ {
			a, b := c.at(i-1).body, c.at(i).body
			if a != b && (a != b+1 || c.at(0).body-c.at(c.len()-1).body != 1) {
				return false
			}
		}
		return true
	}
	look("GET while it is PUT", func() (content, error) { return getBig(r, "whole", "put") }, whole)
	look("GET while it is written", func() (content, error) { return getBig(r, "whole", "written") }, moment)
	look("an open file while its name is PUT", func() (content, error) {
		b, err := os.ReadFile(filepath.Join(dirs[1], "put"))
		if err != nil {
			return "", err
		}
		return parse(b, bigCell)
	}, whole)
	writers.Wait()
	close(done)
	wg.Wait()
	t.Logf("%d looks at %d versions", looks.Load(), 2*rounds)
}

// TestOneMakesIt: of all who make a name at once only where it is not there, one does:
// If-None-Match, open with O_EXCL, link, and renameat2 with RENAME_NOREPLACE.
func TestOneMakesIt(t *testing.T) {
	r := newRig(t, rigOptions{mounts: 2, behind: true})
	dirs := bucketOf(t, r, "one")
	for n := range 20 {
		key := fmt.Sprintf("k%d", n)
		src := func(m int, kind string) string { return filepath.Join(dirs[m], fmt.Sprintf("src-%s-%d", kind, n)) }
		for m, kind := range []string{"link", "rename"} {
			if err := os.WriteFile(src(m, kind), []byte(kind), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		ways := map[string]func() error{
			"put": func() error {
				return putBytes(r, "one", key, []byte("put"), func(in *s3.PutObjectInput) { in.IfNoneMatch = aws.String("*") })
			},
			"create": func() error {
				f, err := os.OpenFile(filepath.Join(dirs[0], key), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteString("create")
				return err
			},
			"link": func() error { return os.Link(src(0, "link"), filepath.Join(dirs[0], key)) },
			"rename": func() error {
				return unix.Renameat2(unix.AT_FDCWD, src(1, "rename"), unix.AT_FDCWD, filepath.Join(dirs[1], key), unix.RENAME_NOREPLACE)
			},
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var made []string
		for way, do := range ways {
			wg.Go(func() {
				err := do()
				mu.Lock()
				defer mu.Unlock()
				var e interface{ HTTPStatusCode() int }
				switch {
				case err == nil:
					made = append(made, way)
				case errors.Is(err, os.ErrExist):
				case errors.As(err, &e) && (e.HTTPStatusCode() == 412 || e.HTTPStatusCode() == 409):
				default:
					t.Errorf("%s: %v", way, err)
				}
			})
		}
		wg.Wait()
		out, err := r.s3.GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("one"), Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(out.Body)
		out.Body.Close()
		if len(made) != 1 || made[0] != string(b) {
			t.Fatalf("%s: made by %v, and it holds %q", key, made, b)
		}
	}
}

// TestMetadataSurvivesEdits: what a PUT said of an object stays with it through what
// programs do to the file.
func TestMetadataSurvivesEdits(t *testing.T) {
	r := newRig(t, rigOptions{mounts: 1, behind: true})
	dirs := bucketOf(t, r, "meta")
	key := "a"
	path := func() string { return filepath.Join(dirs[0], key) }
	err := putBytes(r, "meta", key, []byte("content"), func(in *s3.PutObjectInput) {
		in.ContentType, in.CacheControl, in.Metadata = aws.String("text/x-kept"), aws.String("max-age=7"), map[string]string{"who": "me"}
	})
	if err != nil {
		t.Fatal(err)
	}
	open := func(flags int, do func(*os.File) error) error {
		f, err := os.OpenFile(path(), flags, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	}
	edits := []struct {
		what string
		size int64
		do   func() error
	}{
		{"write", 7, func() error {
			return open(os.O_RDWR, func(f *os.File) error { _, err := f.WriteAt([]byte("C"), 0); return err })
		}},
		{"append", 8, func() error {
			return open(os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.WriteString("."); return err })
		}},
		{"truncate", 3, func() error { return os.Truncate(path(), 3) }},
		{"chmod", 3, func() error { return os.Chmod(path(), 0o600) }},
		{"rename", 3, func() error {
			old := path()
			key = "b"
			return os.Rename(old, path())
		}},
		{"open with O_TRUNC and write", 5, func() error {
			return open(os.O_WRONLY|os.O_TRUNC, func(f *os.File) error { _, err := f.WriteString("again"); return err })
		}},
		{"rename of its directory", 5, func() error {
			if err := os.MkdirAll(filepath.Join(dirs[0], "d"), 0o755); err != nil {
				return err
			}
			if err := os.Rename(path(), filepath.Join(dirs[0], "d", key)); err != nil {
				return err
			}
			key = "e/b"
			return os.Rename(filepath.Join(dirs[0], "d"), filepath.Join(dirs[0], "e"))
		}},
	}
	for _, e := range edits {
		if err := e.do(); err != nil {
			t.Fatalf("%s: %v", e.what, err)
		}
		h, err := r.s3.HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: aws.String("meta"), Key: &key})
		if err != nil {
			t.Fatalf("after %s: %v", e.what, err)
		}
		if aws.ToString(h.ContentType) != "text/x-kept" || aws.ToString(h.CacheControl) != "max-age=7" || h.Metadata["who"] != "me" || aws.ToInt64(h.ContentLength) != e.size {
			t.Errorf("after %s: %s, %s, %v, %d bytes", e.what, aws.ToString(h.ContentType), aws.ToString(h.CacheControl), h.Metadata, aws.ToInt64(h.ContentLength))
		}
	}
}
