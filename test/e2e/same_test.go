package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// sameByS3 compares each file of a bucket in the mount with what a GET says, and that S3
// lists no others.
func (s *store) sameByS3(bucket, dir string) {
	s.t.Helper()
	var want []string
	n, size := 0, 0
	noErr(s.t, filepath.WalkDir(s.Path(bucket, dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		key, _ := filepath.Rel(s.Path(bucket), p)
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if got := s.get(bucket, key); !bytes.Equal(got, b) {
			s.t.Errorf("%s: other bytes by S3 (%d) than in the mount (%d)", key, len(got), len(b))
		}
		want = append(want, key)
		n, size = n+1, size+len(b)
		return nil
	}))
	var got []string
	for _, k := range s.list(bucket, dir+"/") {
		if info, err := os.Lstat(s.Path(bucket, k)); err != nil || info.Mode().IsRegular() {
			got = append(got, k)
		}
	}
	sort.Strings(want)
	sort.Strings(got)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Errorf("by S3 %d files are listed, in the mount there are %d", len(got), len(want))
	}
	s.t.Logf("%s: %d files, %d bytes, the same by S3", dir, n, size)
}
