package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// keysIn lists a directory of a bucket by S3, with the sizes.
func keysIn(t *testing.T, c *s3.Client, b, prefix string) map[string]int64 {
	t.Helper()
	keys := make(map[string]int64)
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &b, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		noErr(t, err)
		for _, o := range page.Contents {
			keys[*o.Key] = aws.ToInt64(o.Size)
		}
	}
	return keys
}

// TestWriteBehind: what a mount does in a directory that it has for itself is committed later.
// S3 and another mount see it at once all the same, the server's death takes nothing
// along, and the mount's nothing that was synced.
func TestWriteBehind(t *testing.T) {
	s := harness.Start(t, 4, harness.WithMount())
	c := s.S3()
	const b = "behind"
	_, err := c.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: aws.String(b)})
	noErr(t, err)
	other := s.Dir + "/other"
	mountAt(t, s, s.Address+"/"+b, other)

	files := func(dir string, n int) {
		t.Helper()
		noErr(t, os.Mkdir(s.Path(b, dir), 0o755))
		for i := range n {
			tmp := s.Path(b, dir, fmt.Sprintf("tmp%d", i))
			noErr(t, os.WriteFile(tmp, make([]byte, i), 0o644))
			if i%3 == 0 {
				noErr(t, os.Remove(tmp))
			} else {
				noErr(t, os.Rename(tmp, s.Path(b, dir, fmt.Sprintf("f%d", i))))
			}
		}
	}
	complete := func(what, dir string, n int) {
		t.Helper()
		keys := keysIn(t, c, b, dir+"/")
		want := 1 // the directory
		for i := range n {
			if i%3 == 0 {
				continue
			}
			want++
			if size, ok := keys[fmt.Sprintf("%s/f%d", dir, i)]; !ok || size != int64(i) {
				t.Errorf("%s: f%d has %d bytes (there: %v)", what, i, size, ok)
			}
		}
		if len(keys) != want {
			t.Errorf("%s: %d keys, not %d", what, len(keys), want)
		}
	}
	files("listed", 60)
	complete("S3", "listed", 60)
	files("mounted", 60)
	list, err := os.ReadDir(other + "/mounted")
	noErr(t, err)
	if len(list) != 40 {
		t.Errorf("another mount shows %d files", len(list))
	}
	files("killed-server", 60)
	s.Kill()
	s.Start()
	complete("after the server was killed", "killed-server", 60)

	files("killed-mount", 60)
	d, err := os.Open(s.Path(b, "killed-mount"))
	noErr(t, err)
	noErr(t, d.Sync())
	d.Close()
	s.KillMount()
	complete("after the mount was killed", "killed-mount", 60)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if list, err := os.ReadDir(s.Path(b, "killed-mount")); err == nil && len(list) == 40 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the next mount shows %d files, %v", len(list), err)
		}
	}
}
