package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// What one view has answered for, the other shows at once: nothing here waits,
// sleeps, closes or syncs to make it so.
func TestViews(t *testing.T) {
	s := newStore(t)
	for _, v := range []struct {
		name string
		run  func(*store, string)
	}{
		{"buckets", buckets}, {"write", writes}, {"overwrite", overwrites}, {"unlink", unlinks}, {"xattr", xattrs}, {"links", links},
		{"directories", directories}, {"rename", renames}, {"both", fileAndDirectory}, {"odd-keys", oddKeys}, {"odd-names", oddNames}, {"deep", deepPaths},
		{"attributes", attributes}, {"acls", acls}, {"exchange", exchanges}, {"append", appends}, {"special", specials}, {"direct", directs}, {"races", races},
	} {
		t.Run(v.name, func(t *testing.T) {
			s := s.in(t)
			bucket := "view-" + v.name
			s.bucket(bucket)
			v.run(s, bucket)
		})
	}
}

func buckets(s *store, b string) {
	ctx := context.Background()
	noErr(s.t, os.Mkdir(s.Path("made-in-the-mount"), 0o755))
	l, err := s.c.ListBuckets(ctx, nil)
	noErr(s.t, err)
	var names []string
	for _, x := range l.Buckets {
		names = append(names, *x.Name)
	}
	if !strings.Contains(strings.Join(names, " ")+" ", "made-in-the-mount ") {
		s.t.Fatalf("buckets: %q", names)
	}
	s.put("made-in-the-mount", "k", nil)
	if err := os.Remove(s.Path("made-in-the-mount")); !errors.Is(err, unix.ENOTEMPTY) {
		s.t.Fatalf("rmdir of a bucket with an object: %v", err)
	}
	s.delete("made-in-the-mount", "k")
	noErr(s.t, os.Remove(s.Path("made-in-the-mount")))
	if _, err := s.tryGet("made-in-the-mount", "k"); err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
		s.t.Fatalf("GET from a bucket that rmdir removed: %v", err)
	}
	_, err = s.c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &b})
	noErr(s.t, err)
	s.wantNoFile(b)
}

// writes: S3 sees each write(2) that returned, while the file stays open.
func writes(s *store, b string) {
	f, err := os.OpenFile(s.Path(b, "f"), os.O_RDWR|os.O_CREATE, 0o644)
	noErr(s.t, err)
	defer f.Close()
	s.wantObject(b, "f", nil)
	var want []byte
	etags := map[string]bool{}
	head := func() int64 {
		h, err := s.c.HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: &b, Key: aws.String("f")})
		noErr(s.t, err)
		if etags[*h.ETag] {
			s.t.Fatalf("the ETag %s did not change with the content", *h.ETag)
		}
		etags[*h.ETag] = true
		return *h.ContentLength
	}
	for i := range 30 {
		_, err := f.Write([]byte(fmt.Sprintf("line %d\n", i)))
		noErr(s.t, err)
		want = fmt.Appendf(want, "line %d\n", i)
		s.wantObject(b, "f", want)
		if n := head(); n != int64(len(want)) {
			s.t.Fatalf("HEAD: %d bytes, want %d", n, len(want))
		}
	}
	_, err = f.WriteAt([]byte("over"), 3)
	noErr(s.t, err)
	copy(want[3:], "over")
	s.wantObject(b, "f", want)
	_, err = f.WriteAt([]byte("far"), 3<<20) // a hole before it
	noErr(s.t, err)
	want = append(append(want, make([]byte, 3<<20-len(want))...), "far"...)
	s.wantObject(b, "f", want)
	noErr(s.t, f.Truncate(5))
	s.wantObject(b, "f", want[:5])
	noErr(s.t, os.Truncate(s.Path(b, "f"), 10))
	s.wantObject(b, "f", append(bytes.Clone(want[:5]), make([]byte, 5)...))

	a, err := os.OpenFile(s.Path(b, "f"), os.O_WRONLY|os.O_APPEND, 0)
	noErr(s.t, err)
	defer a.Close()
	_, err = a.Write([]byte("appended"))
	noErr(s.t, err)
	if got := s.get(b, "f"); string(got[10:]) != "appended" {
		s.t.Fatalf("append: %q", got)
	}
	// Large, in the sizes that programs use, not fsynced.
	big := content(9, 20<<20)
	l, err := os.Create(s.Path(b, "large"))
	noErr(s.t, err)
	defer l.Close()
	for at := 0; at < len(big); at += 128 << 10 {
		_, err := l.Write(big[at : at+128<<10])
		noErr(s.t, err)
	}
	s.wantObject(b, "large", big)
	if l, err := s.c.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b, Prefix: aws.String("large")}); err != nil || *l.Contents[0].Size != 20<<20 {
		s.t.Fatalf("LIST: %v %v", l, err)
	}
}

// overwrites: a PUT over a file that is open is like rename over it.
func overwrites(s *store, b string) {
	s.put(b, "f", []byte("the old content"))
	f, err := os.OpenFile(s.Path(b, "f"), os.O_RDWR, 0)
	noErr(s.t, err)
	defer f.Close()
	buf := make([]byte, 3)
	_, err = f.ReadAt(buf, 4)
	noErr(s.t, err)
	s.put(b, "f", []byte("the NEW content"))
	s.wantFile([]byte("the NEW content"), b, "f")
	_, err = f.ReadAt(buf, 4)
	noErr(s.t, err)
	same(s.t, "an open file", buf, []byte("old"))
	_, err = f.WriteAt([]byte("lost"), 0) // to the file that has no name any more
	noErr(s.t, err)
	s.wantObject(b, "f", []byte("the NEW content"))

	// Many versions, each at once in both views, mode and owner kept.
	noErr(s.t, os.Chmod(s.Path(b, "f"), 0o640))
	for i := range 20 {
		v := fmt.Appendf(nil, "version %d", i)
		s.put(b, "f", v)
		s.wantFile(v, b, "f")
		v = append(v, " by the mount"...)
		noErr(s.t, os.WriteFile(s.Path(b, "f"), v, 0o644))
		s.wantObject(b, "f", v)
	}
	if fi, err := os.Stat(s.Path(b, "f")); err != nil || fi.Mode() != 0o640 {
		s.t.Fatalf("mode after a PUT: %v %v", fi.Mode(), err)
	}
	s.multipart(b, "f", content(1, 11<<20), 5<<20)
	s.wantFile(content(1, 11<<20), b, "f")
}

func unlinks(s *store, b string) {
	s.put(b, "f", []byte("content"))
	f, err := os.Open(s.Path(b, "f"))
	noErr(s.t, err)
	defer f.Close()
	s.delete(b, "f")
	s.wantNoFile(b, "f")
	buf := make([]byte, 7)
	_, err = f.ReadAt(buf, 0)
	noErr(s.t, err)
	same(s.t, "a deleted file that is open", buf, []byte("content"))

	noErr(s.t, os.WriteFile(s.Path(b, "g"), []byte("x"), 0o644))
	s.wantObject(b, "g", []byte("x"))
	noErr(s.t, os.Remove(s.Path(b, "g")))
	s.wantNoObject(b, "g")
	s.wantList(b, "")
	// A name that was asked for and not there is there once the other view made it.
	for i := range 10 {
		n := fmt.Sprint("n", i)
		s.wantNoFile(b, n)
		s.put(b, n, []byte(n))
		s.wantFile([]byte(n), b, n)
		s.delete(b, n)
		s.wantNoFile(b, n)
		noErr(s.t, os.WriteFile(s.Path(b, n), []byte(n), 0o644))
		s.wantObject(b, n, []byte(n))
	}
}

func xattrs(s *store, b string) {
	ctx := context.Background()
	_, err := s.c.PutObject(ctx, &s3.PutObjectInput{Bucket: &b, Key: aws.String("f"), Body: strings.NewReader("x"),
		ContentType: aws.String("text/x-test"), Metadata: map[string]string{"colour": "blue", "size": "small"}})
	noErr(s.t, err)
	p := s.Path(b, "f")
	attr := func(name string) string {
		buf := make([]byte, 256)
		n, err := unix.Getxattr(p, name, buf)
		if err != nil {
			return err.Error()
		}
		return string(buf[:n])
	}
	for name, want := range map[string]string{"user.colour": "blue", "user.size": "small", "user.s3.content-type": "text/x-test", "user.none": unix.ENODATA.Error()} {
		if got := attr(name); got != want {
			s.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	noErr(s.t, unix.Setxattr(p, "user.colour", []byte("red"), unix.XATTR_REPLACE))
	noErr(s.t, unix.Setxattr(p, "user.new", []byte("one"), unix.XATTR_CREATE))
	noErr(s.t, unix.Removexattr(p, "user.size"))
	noErr(s.t, unix.Setxattr(p, "user.s3.content-type", []byte("image/png"), 0))
	noErr(s.t, unix.Setxattr(p, "user.binary", []byte{0, 1, 2, 0xff}, 0)) // no header can carry it
	noErr(s.t, unix.Setxattr(p, "user.tab", []byte("a\tb"), 0))
	noErr(s.t, unix.Setxattr(p, "user.text", []byte("grün\n"), 0)) // a header can, by RFC 2047
	h, err := s.c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b, Key: aws.String("f")})
	noErr(s.t, err)
	if fmt.Sprint(h.Metadata) != "map[colour:red new:one tab:a\tb text:=?UTF-8?B?Z3LDvG4K?=]" || *h.ContentType != "image/png" {
		s.t.Fatalf("HEAD: %v %s", h.Metadata, *h.ContentType)
	}
	if got := attr("user.binary"); got != "\x00\x01\x02\xff" {
		s.t.Fatalf("user.binary: %q", got)
	}
	_, err = s.c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b, Key: aws.String("f"), CopySource: aws.String(b + "/f"),
		MetadataDirective: "REPLACE", Metadata: map[string]string{"only": "this"}})
	noErr(s.t, err)
	if got := attr("user.only"); got != "this" || attr("user.colour") != unix.ENODATA.Error() {
		s.t.Fatalf("after REPLACE: %q %q", got, attr("user.colour"))
	}
}

func links(s *store, b string) {
	noErr(s.t, os.WriteFile(s.Path(b, "one"), []byte("1"), 0o644))
	noErr(s.t, os.Link(s.Path(b, "one"), s.Path(b, "two")))
	s.wantList(b, "", "one", "two")
	noErr(s.t, os.WriteFile(s.Path(b, "two"), []byte("both"), 0o644))
	s.wantObject(b, "one", []byte("both"))
	s.put(b, "one", []byte("apart")) // a new inode
	s.wantFile([]byte("both"), b, "two")
	s.delete(b, "one")
	s.wantObject(b, "two", []byte("both"))
	noErr(s.t, os.Symlink("two", s.Path(b, "link")))
	s.wantObject(b, "link", []byte("two"))
	s.wantFile([]byte("both"), b, "link")
}

func directories(s *store, b string) {
	noErr(s.t, os.Mkdir(s.Path(b, "made"), 0o755))
	s.wantList(b, "", "made/")
	s.put(b, "folder/", nil)
	if fi, err := os.Stat(s.Path(b, "folder")); err != nil || !fi.IsDir() {
		s.t.Fatalf("PUT of folder/: %v %v", fi, err)
	}
	noErr(s.t, os.Remove(s.Path(b, "made")))
	s.wantList(b, "", "folder/")
	s.delete(b, "folder/")
	s.wantNoFile(b, "folder")

	// Implied by a key, and gone with the last one below.
	s.put(b, "x/y/z", []byte("z"))
	s.put(b, "x/w", []byte("w"))
	s.wantFile([]byte("z"), b, "x", "y", "z")
	s.wantList(b, "", "x/w", "x/y/z")
	s.delete(b, "x/y/z")
	s.wantNoFile(b, "x", "y")
	s.delete(b, "x/w")
	s.wantNoFile(b, "x")
	// A change in the mount makes one explicit: rm dir/* leaves dir.
	s.put(b, "kept/a", nil)
	noErr(s.t, os.Remove(s.Path(b, "kept", "a")))
	s.wantList(b, "", "kept/")
	// An explicit one stays when S3 deletes what is in it.
	s.put(b, "kept/b", nil)
	s.delete(b, "kept/b")
	s.wantList(b, "", "kept/")
	// Delimiters and directories are the same.
	s.put(b, "kept/c/d", nil)
	s.put(b, "top", nil)
	l, err := s.c.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b, Delimiter: aws.String("/")})
	noErr(s.t, err)
	if len(l.CommonPrefixes) != 1 || *l.CommonPrefixes[0].Prefix != "kept/" || len(l.Contents) != 1 || *l.Contents[0].Key != "top" {
		s.t.Fatalf("LIST with a delimiter: %v %v", l.CommonPrefixes, l.Contents)
	}
	s.wantDir(s.Path(b), "kept", "top")
	if err := os.Remove(s.Path(b, "kept")); !errors.Is(err, unix.ENOTEMPTY) {
		s.t.Fatalf("rmdir: %v", err)
	}
}

func (s *store) wantDir(dir string, want ...string) {
	s.t.Helper()
	entries, err := os.ReadDir(dir)
	noErr(s.t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	sort.Strings(got)
	sort.Strings(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Fatalf("%s: %q, want %q", dir, got, want)
	}
}

// renames: LIST sees a directory under its old name or its new one, whole.
func renames(s *store, b string) {
	const n = 2500 // three pages of a listing
	noErr(s.t, os.Mkdir(s.Path(b, "a"), 0o755))
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < n; i += 32 {
				key := fmt.Sprintf("a/%04d", i)
				if _, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &b, Key: &key}); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	open, err := os.OpenFile(s.Path(b, "a", "0000"), os.O_WRONLY, 0)
	noErr(s.t, err)
	defer open.Close()
	done, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			from, to := "a", "b"
			if i%2 == 1 {
				from, to = to, from
			}
			if err := os.Rename(s.Path(b, from), s.Path(b, to)); err != nil {
				s.t.Error(err)
				return
			}
		}
	}()
	for range 60 {
		// One page with a delimiter is one operation, and there is exactly one directory.
		l, err := s.c.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b, Delimiter: aws.String("/")})
		if err != nil || len(l.CommonPrefixes) != 1 || len(l.Contents) != 0 {
			s.t.Errorf("LIST while a directory is renamed: %+v %v", l, err)
			break
		}
		// So is a page of keys: a thousand of one name, none of the other among them.
		l, err = s.c.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b})
		if err != nil || len(l.Contents) != 1000 || (*l.Contents[0].Key)[0] != (*l.Contents[999].Key)[0] {
			s.t.Errorf("LIST while a directory is renamed: %d keys, %v", len(l.Contents), err)
			break
		}
	}
	close(done)
	<-finished
	from, _ := os.ReadDir(s.Path(b))
	if len(from) != 1 {
		s.t.Fatalf("%v", from)
	}
	noErr(s.t, os.Rename(s.Path(b, from[0].Name()), s.Path(b, "last")))
	if keys := s.list(b, ""); len(keys) != n+1 || keys[0] != "last/" || keys[n] != fmt.Sprintf("last/%04d", n-1) {
		s.t.Fatalf("after the rename: %d keys, %q ...", len(keys), keys[0])
	}
	_, err = open.WriteString("through the rename")
	noErr(s.t, err)
	s.wantObject(b, "last/0000", []byte("through the rename"))
	// Over a file, and of a file over another.
	s.put(b, "last/0001", []byte("one"))
	noErr(s.t, os.Rename(s.Path(b, "last", "0001"), s.Path(b, "last", "0000")))
	s.wantObject(b, "last/0000", []byte("one"))
	s.wantNoObject(b, "last/0001")
}

// fileAndDirectory: S3 may have a and a/b.
func fileAndDirectory(s *store, b string) {
	s.put(b, "a", []byte("file"))
	s.wantFile([]byte("file"), b, "a")
	s.put(b, "a/b", []byte("below"))
	s.wantFile([]byte("below"), b, "a", "b")
	s.wantFile([]byte("file"), b, "%tf-file-a")
	s.wantObject(b, "a", []byte("file"))
	s.wantList(b, "", "a", "a/b")
	s.wantDir(s.Path(b), "a", "%tf-file-a")
	noErr(s.t, os.WriteFile(s.Path(b, "%tf-file-a"), []byte("written"), 0o644))
	s.wantObject(b, "a", []byte("written"))
	s.delete(b, "a/b")
	s.wantFile([]byte("written"), b, "a")
	s.wantNoFile(b, "%tf-file-a")
	// The directory of the mount with an object of the same name.
	noErr(s.t, os.Mkdir(s.Path(b, "d"), 0o755))
	s.put(b, "d", []byte("beside"))
	s.wantFile([]byte("beside"), b, "%tf-file-d")
	s.wantList(b, "d", "d", "d/")
	noErr(s.t, os.Remove(s.Path(b, "%tf-file-d")))
	s.wantNoObject(b, "d")
}

// oddKeys: keys that are no paths, and where they are in the mount (docs/keys.md).
func oddKeys(s *store, b string) {
	long := strings.Repeat("é", 300) // 600 bytes
	cases := map[string]string{
		"a//b": "a/%tf-empty/b", "/lead": "%tf-empty/lead", "dots/./x": "dots/%tf-dot/x", "dots/../x": "dots/%tf-dotdot/x", "up/..": "up/%tf-dotdot", ".": "%tf-dot",
		"%tf-foo": "%tf-x-%25tf-foo", "line\nbreak": "line\nbreak", "日本/語": "日本/語", "100%": "100%", "back\\slash": "back\\slash", "a+b c&d<e>\"f'": "a+b c&d<e>\"f'",
		"long/" + long: "long/%tf-long-" + long[:240] + "/%tf-long-" + long[:240] + "/%tf-last-" + long[:120],
	}
	var keys []string
	for key, path := range cases {
		keys = append(keys, key)
		s.put(b, key, []byte("key "+key))
		s.wantFile([]byte("key "+key), b, path)
	}
	s.wantList(b, "", keys...)
	for key, path := range cases {
		noErr(s.t, os.WriteFile(s.Path(b, path), []byte("path "+path), 0o644))
		s.wantObject(b, key, []byte("path "+path))
	}
	for key, path := range cases {
		noErr(s.t, os.Remove(s.Path(b, path)))
		s.wantNoObject(b, key)
	}
}

// oddNames: file names that are no keys, and what S3 calls them.
func oddNames(s *store, b string) {
	for name, key := range map[string]string{
		"caf\xe9": "%tf-x-caf%E9", "%tf-foo": "%tf-x-%25tf-foo", "\xff/\xfe": "%tf-x-%FF/%tf-x-%FE", "new\nline": "new\nline", "\x01": "\x01",
	} {
		noErr(s.t, os.MkdirAll(filepath.Dir(s.Path(b, name)), 0o755))
		noErr(s.t, os.WriteFile(s.Path(b, name), []byte(name), 0o644))
		s.wantObject(b, key, []byte(name))
		if !strings.Contains("\n"+strings.Join(s.encodedList(b), "\n")+"\n", "\n"+key+"\n") {
			s.t.Fatalf("%q is not listed as %q: %q", name, key, s.encodedList(b))
		}
		s.put(b, key, []byte("PUT"))
		s.wantFile([]byte("PUT"), b, name)
		s.delete(b, key)
		s.wantNoFile(b, name)
	}
}

// encodedList lists with encoding-type=url, as SDKs do for keys that XML can't hold.
func (s *store) encodedList(b string) []string {
	l, err := s.c.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &b, EncodingType: "url"})
	noErr(s.t, err)
	var keys []string
	for _, o := range l.Contents {
		keys = append(keys, unescapeKey(*o.Key))
	}
	return keys
}

// deepPaths: a path of over 1,024 bytes has a key all the same.
func deepPaths(s *store, b string) {
	dir := s.Path(b)
	for range 12 {
		dir = filepath.Join(dir, strings.Repeat("d", 100))
	}
	noErr(s.t, os.MkdirAll(dir, 0o755))
	noErr(s.t, os.WriteFile(filepath.Join(dir, "file"), []byte("deep"), 0o644))
	found := false
	for _, k := range s.list(b, "") {
		if len(k) > 1024 {
			s.t.Fatalf("a key of %d bytes", len(k))
		}
		if strings.Contains(k, "%tf-ino-") && !strings.HasSuffix(k, "/") {
			s.wantObject(b, k, []byte("deep"))
			// A PUT would make a new inode, whose key would be another.
			if _, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &b, Key: &k}); err == nil || !strings.Contains(err.Error(), "InvalidArgument") {
				s.t.Fatalf("PUT of a deep key: %v", err)
			}
			noErr(s.t, os.WriteFile(filepath.Join(dir, "file"), []byte("deeper"), 0o644))
			s.wantObject(b, k, []byte("deeper"))
			s.delete(b, k)
			found = true
		}
	}
	if !found {
		s.t.Fatalf("the file is not listed: %q", s.list(b, ""))
	}
	if _, err := os.Stat(filepath.Join(dir, "file")); !errors.Is(err, os.ErrNotExist) {
		s.t.Fatalf("after DELETE of the deep key: %v", err)
	}
	noErr(s.t, os.WriteFile(filepath.Join(dir, "file"), []byte("deeper"), 0o644))
	noErr(s.t, os.Rename(filepath.Join(dir, "file"), s.Path(b, "back")))
	s.wantObject(b, "back", []byte("deeper"))
}

func attributes(s *store, b string) {
	_, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &b, Key: aws.String("f"), Body: strings.NewReader("x"),
		Metadata: map[string]string{"mode": "104750", "uid": "12", "gid": "34", "mtime": "1000000000.5"}})
	noErr(s.t, err)
	var st unix.Stat_t
	noErr(s.t, unix.Stat(s.Path(b, "f"), &st))
	if st.Mode != unix.S_IFREG|0o750 || st.Uid != 12 || st.Gid != 34 || st.Mtim.Sec != 1e9 || st.Mtim.Nsec != 5e8 {
		s.t.Fatalf("%o %d %d %v: set-id bits are never taken, the rest is", st.Mode, st.Uid, st.Gid, st.Mtim)
	}
	noErr(s.t, os.Chmod(s.Path(b, "f"), 0o600))
	h, err := s.c.HeadObject(context.Background(), &s3.HeadObjectInput{Bucket: &b, Key: aws.String("f")})
	if err != nil || !strings.HasSuffix(h.Metadata["mode"], "600") {
		s.t.Fatalf("mode after chmod: %v %v", h, err)
	}
	s.put(b, "g", make([]byte, 12345))
	if fi, err := os.Stat(s.Path(b, "g")); err != nil || fi.Size() != 12345 || fi.Mode() != 0o644 {
		s.t.Fatalf("%v %v", fi, err)
	}
}

// races: two views change one name at once; what each reads is one of the writes,
// whole, and never older than one that it has seen or that was answered.
func races(s *store, b string) {
	const rounds = 60
	value := func(by string, i int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "%s %03d|", by, i), 2000)
	}
	s.put(b, "f", value("s3", 0))
	var wg sync.WaitGroup
	write := func(by string, put func([]byte) error) {
		wg.Go(func() {
			for i := 1; i <= rounds; i++ {
				if err := put(value(by, i)); err != nil {
					s.t.Errorf("%s: %v", by, err)
					return
				}
			}
		})
	}
	write("s3", func(v []byte) error {
		_, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &b, Key: aws.String("f"), Body: bytes.NewReader(v)})
		return err
	})
	write("fs", func(v []byte) error {
		if err := os.WriteFile(s.Path(b, ".tmp"), v, 0o644); err != nil {
			return err
		}
		return os.Rename(s.Path(b, ".tmp"), s.Path(b, "f"))
	})
	read := func(by string, get func() ([]byte, error)) {
		wg.Go(func() {
			last := map[string]string{}
			for range rounds {
				v, err := get()
				if err != nil || len(v) != 14000 && len(v) != 7*2000 || !bytes.Equal(v, bytes.Repeat(v[:7], 2000)) {
					s.t.Errorf("%s read %d bytes, %.40q, %v: not one write's", by, len(v), v, err)
					return
				}
				if by, i := string(v[:2]), string(v[3:6]); i < last[by] {
					s.t.Errorf("read %s %s after %s", by, i, last[by])
				} else {
					last[by] = i
				}
			}
		})
	}
	read("GET", func() ([]byte, error) { return s.tryGet(b, "f") })
	read("cat", func() ([]byte, error) { return os.ReadFile(s.Path(b, "f")) })
	wg.Wait()
	same(s.t, "in the end", s.get(b, "f"), must(os.ReadFile(s.Path(b, "f"))))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
