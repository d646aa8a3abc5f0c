package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// TestQuota: a bucket that is limited from the command line, filled through S3 and
// through a mount of it.
func TestQuota(t *testing.T) {
	harness.NeedMount(t)
	s := harness.Start(t, 4)
	st := &store{Server: s, t: t, c: s.S3()}
	ctx, name := context.Background(), "photos"
	st.bucket(name)
	st.put(name, "first", content(1, 1<<20))
	quota := func(args ...string) string {
		t.Helper()
		r := s.Program(nil, append([]string{"quota", "--endpoint", s.URL("")}, args...)...)
		if r.Status != 0 || r.Stderr != "" {
			t.Fatalf("quota %q: status %d, %s", args, r.Status, r.Stderr)
		}
		return r.Stdout
	}
	want := func(got string, lines ...string) {
		t.Helper()
		for _, l := range lines {
			if !strings.Contains(got, l) {
				t.Errorf("no %q in\n%s", l, got)
			}
		}
	}
	want(quota(name), "bucket    photos\n", "quota     none\n", "used      1048576 (1 MiB)\n")
	want(quota(name, "4MiB"), "quota     4194304 (4 MiB)\n", "used      1048576 (1 MiB) 25%\n", "free      3145728 (3 MiB)\n")
	put := func(key string, n int) error {
		_, err := st.c.PutObject(ctx, &s3.PutObjectInput{Bucket: &name, Key: &key, Body: bytes.NewReader(content(2, n))},
			func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		return err
	}
	refused := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "StatusCode: 403") || !strings.Contains(err.Error(), "QuotaExceeded") {
			t.Errorf("%v, want QuotaExceeded", err)
		}
	}
	refused(put("large", 64<<20))
	refused(put("large", 3<<20+1))
	noErr(t, put("second", 1<<20))

	dir := filepath.Join(s.Dir, "bucket")
	mountAt(t, s, s.Address+"/"+name, dir)
	var fs syscall.Statfs_t
	noErr(t, syscall.Statfs(dir, &fs))
	if total, free := fs.Blocks*uint64(fs.Bsize), fs.Bavail*uint64(fs.Bsize); total != 4<<20 || free != 2<<20 {
		t.Errorf("df: %d, %d free", total, free)
	}
	f, err := os.Create(filepath.Join(dir, "file"))
	noErr(t, err)
	size := 0
	for {
		n, err := f.Write(content(3, 100_000))
		if size += n; err != nil {
			if n != 0 || !errors.Is(err, syscall.EDQUOT) {
				t.Errorf("%d bytes, then %v", n, err)
			}
			break
		}
	}
	if size != 2_000_000 {
		t.Errorf("%d bytes were written, of %d", size, 2<<20)
	}
	noErr(t, f.Sync())
	if err := f.Truncate(3 << 20); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("truncate: %v", err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 3<<20); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("fallocate: %v", err)
	}
	noErr(t, f.Close())
	refused(put("third", 2<<20-2_000_000+1))
	// To the byte: nothing is reserved any more, once the kernel has told the mount of the
	// last close(2), which it does a moment later.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err = put("third", 2<<20-2_000_000); err == nil || time.Now().After(deadline) {
			break
		}
	}
	noErr(t, err)
	want(quota(name), "used      4194304 (4 MiB) 100%\n", "free      0\n")
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o644); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("a file more: %v", err)
	}
	noErr(t, os.Remove(filepath.Join(dir, "file")))
	noErr(t, put("fourth", 2_000_000))
	want(quota(name, "--clear"), "quota     none\n")
	noErr(t, put("large", 5<<20))

	for says, args := range map[string][]string{
		`no bucket "nothing"`: {"nothing"}, "10GiB": {name, "many"}, "not both": {name, "1GiB", "--clear"}, "perhaps a size": {},
	} {
		r := s.Program(nil, append([]string{"quota", "--endpoint", s.URL("")}, args...)...)
		if r.Status == 0 || !strings.Contains(r.Stderr, says) {
			t.Errorf("quota %q: status %d, %s", args, r.Status, r.Stderr)
		}
	}
	r := s.Program([]string{"S3_ROOT_PASSWORD=not-the-right-one"}, "quota", "--endpoint", s.URL(""), name)
	if r.Status != 1 || !strings.Contains(r.Stderr, "S3_ROOT_USER") {
		t.Errorf("a wrong password: status %d, %s", r.Status, r.Stderr)
	}
}
