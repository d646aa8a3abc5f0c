package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"twofold/internal/acl"
)

// acls: what S3 makes in a directory with a default ACL inherits it, a PUT over a file
// keeps the file's, a copy takes none of its source's.
func acls(s *store, b string) {
	list := acl.ACL{
		{Tag: acl.UserObj, Perm: 7, ID: acl.NoID}, {Tag: acl.User, Perm: 7, ID: 4000}, {Tag: acl.GroupObj, Perm: 5, ID: acl.NoID},
		{Tag: acl.Mask, Perm: 7, ID: acl.NoID}, {Tag: acl.Other, ID: acl.NoID},
	}
	want := func(mode os.FileMode, access, def acl.ACL, elem ...string) {
		s.t.Helper()
		path := s.Path(append([]string{b}, elem...)...)
		st, err := os.Stat(path)
		noErr(s.t, err)
		if st.Mode() != mode {
			s.t.Errorf("%s: mode %v, want %v", path, st.Mode(), mode)
		}
		for name, list := range map[string]acl.ACL{acl.AccessName: access, acl.DefaultName: def} {
			buf := make([]byte, acl.MaxLen)
			n, err := unix.Getxattr(path, name, buf)
			switch {
			case list == nil && !errors.Is(err, unix.ENODATA):
				s.t.Errorf("%s: %s: %x, %v; want none", path, name, buf[:max(0, n)], err)
			case list != nil && (err != nil || !bytes.Equal(buf[:n], list.Encode())):
				s.t.Errorf("%s: %s: %x, %v; want %v", path, name, buf[:max(0, n)], err, list)
			}
		}
	}
	noErr(s.t, os.Mkdir(s.Path(b, "d"), 0o755))
	noErr(s.t, unix.Setxattr(s.Path(b, "d"), acl.DefaultName, list.Encode(), 0))
	s.put(b, "d/one", []byte("1"))
	s.put(b, "d/a/b/two", []byte("2"))
	file, _ := list.Inherit(0o666)
	want(0o660, file, nil, "d", "one")
	want(os.ModeDir|0o770, list, list, "d", "a", "b")
	want(0o660, file, nil, "d", "a", "b", "two")

	noErr(s.t, os.Chmod(s.Path(b, "d", "one"), 0o640))
	file = file.Chmod(0o640)
	s.put(b, "d/one", []byte("again"))
	want(0o640, file, nil, "d", "one")
	s.wantFile([]byte("again"), b, "d", "one")
	_, err := s.c.CopyObject(context.Background(), &s3.CopyObjectInput{Bucket: &b, Key: aws.String("copy"), CopySource: aws.String(b + "/d/one")})
	noErr(s.t, err)
	want(0o644, nil, nil, "copy")
}
