package s3

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"twofold"
	"twofold/metadata"
	"twofold/s3/s3err"
)

func TestBucketNames(t *testing.T) {
	for name, want := range map[string]bool{
		"abc": true, "a-b.c": true, "123": true, "a" + strings.Repeat("b", 62): true, "my.bucket": true,
		"ab": false, "a" + strings.Repeat("b", 63): false, "Abc": false, "-abc": false, "abc-": false, ".abc": false, "a..b": false,
		"a_b": false, "192.168.5.4": false, "xn--abc": false, "abc-s3alias": false, "abc--ol-s3": false, "ab c": false, "äbc": false, "": false,
	} {
		if validBucketName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestModes: rclone's octal and s3fs's decimal forms are told apart.
func TestModes(t *testing.T) {
	for s, want := range map[string]uint32{
		"100644": 0o100644, "0100600": 0o100600, "644": 0o644, "0755": 0o755, "40755": 0o40755, // rclone
		"33188": 0o100644, "33261": 0o100755, "16877": 0o40755, "41471": 0o120777, "33152": 0o100600, "32768": 0o100000, "32804": 0o100044, // s3fs
	} {
		if m, ok := parseMode(s); !ok || m.bits != want {
			t.Errorf("%q: %o %v, want %o", s, m.bits, ok, want)
		}
	}
	for _, s := range []string{"", "-1", "x", "999999999", "0x1ff", "70000000", "8"} {
		if m, ok := parseMode(s); ok {
			t.Errorf("%q: %o", s, m.bits)
		}
	}
}

// TestEveryFileMode: all modes of regular files, in both ways of writing.
func TestEveryFileMode(t *testing.T) {
	for perm := uint32(0); perm <= 0o7777; perm++ {
		bits := modeReg | perm
		for _, m := range []mode{{bits: bits, decimal: true}, {bits: bits, width: 6}} {
			s := m.with(perm & modePerm)
			if got, ok := parseMode(s); !ok || got.bits != bits || got.decimal != m.decimal {
				t.Fatalf("%q: %o, want %o", s, got.bits, bits)
			}
		}
	}
}

func TestMtimes(t *testing.T) {
	for s, want := range map[string]twofold.Time{
		"1354040105": 1354040105e9, "1354040105.123456789": 1354040105123456789, "1354040105.5": 1354040105500000000,
		"1354040105.1234567899": 1354040105123456789, "-1.25": -1250000000, "2012-11-27T18:15:05.5Z": 1354040105500000000,
		"2012-11-27T19:15:05+01:00": 1354040105e9,
	} {
		got, ok := parseMtime(s)
		if !ok || got != want {
			t.Errorf("%q: %d %v, want %d", s, got, ok, want)
		}
		if back, ok := parseMtime(formatMtime(s, want)); !ok || back != want {
			t.Errorf("%q: written as %q", s, formatMtime(s, want))
		}
	}
	for _, s := range []string{"", "x", "1.x", "1e9", "99999999999999999999", "9223372036854775807", "9999-01-01T00:00:00Z", "0"} {
		if v, ok := parseMtime(s); ok {
			t.Errorf("%q: %d", s, v)
		}
	}
}

// TestPosixFollows: metadata shows the attributes as they are now, and stays as it
// was written while they agree.
func TestPosixFollows(t *testing.T) {
	meta := map[string]string{"mode": "33188", "uid": "7", "gid": "08", "mtime": "1354040105.50", "other": "x"}
	now := *posixOf(meta)
	if got := withPosix(meta, now); got["mtime"] != "1354040105.50" || got["gid"] != "08" {
		t.Fatal(got)
	}
	perm, uid, mtime := uint32(0o600), uint32(8), twofold.Time(1e9)
	now.Mode, now.UID, now.Mtime = &perm, &uid, &mtime
	got := withPosix(meta, now)
	if got["mode"] != "33152" || got["uid"] != "8" || got["mtime"] != "1" || got["gid"] != "08" || got["other"] != "x" {
		t.Fatal(got)
	}
	if meta["mode"] != "33188" {
		t.Fatal("the stored map was changed")
	}
	if posixOf(map[string]string{"mode": "x", "a": "b"}) != nil || *posixOf(map[string]string{"mode": "104755"}).Mode != 0o755 {
		t.Fatal("set-id bits or nonsense went in")
	}
}

func TestMetaEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.StringN(0, 60, 200), rapid.StringMatching(`[\x00-\x20=?a]{0,80}`),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 80), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.StringN(0, 60, 200), func(s string) string { return encodedWords("UTF-8", s) })).Draw(t, "s")
		e := encodeMeta(s)
		for i := 0; i < len(e); i++ {
			if (e[i] < ' ' && e[i] != '\t') || e[i] > '~' {
				t.Fatalf("%q is not fit for a header", e)
			}
		}
		for w := range strings.FieldsSeq(e) {
			if strings.HasPrefix(w, "=?") && strings.HasSuffix(w, "?=") && len(w) > 75 && s != e {
				t.Fatalf("%q is too long for a word", w)
			}
		}
		want := s
		if !utf8.ValidString(s) { // ISO-8859-1: each byte is a character
			want = ""
			for _, c := range []byte(s) {
				want += string(rune(c))
			}
		}
		if got := decodeMeta(strings.Trim(e, " \t")); got != want {
			t.Fatalf("%q came back as %q by %q", s, got, e)
		}
	})
	for in, want := range map[string]string{"a\tb c": "a\tb c", "\ta": "=?UTF-8?B?CWE=?=", "gr\u00fcn": "=?UTF-8?B?Z3LDvG4=?=", "a\r\nb": "=?UTF-8?B?YQ0KYg==?=",
		"=?UTF-8?Q?x?=": "=?UTF-8?B?PT9VVEYtOD9RP3g/PQ==?=", "\xfc": "=?ISO-8859-1?B?/A==?="} {
		if got := encodeMeta(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	h := http.Header{}
	setMeta(h, map[string]string{"ok": "v", "not a token": "v", "": "v"})
	if h["x-amz-missing-meta"][0] != "2" || h["x-amz-meta-ok"][0] != "v" {
		t.Fatal(h)
	}
}

func TestWithoutChunked(t *testing.T) {
	for in, want := range map[string]string{"aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, aws-chunked": "gzip", "gzip": "gzip", "gzip, br": "gzip, br"} {
		if got := withoutChunked(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestCopySource(t *testing.T) {
	for in, want := range map[string]string{"/bkt/k": "bkt|k", "bkt/a%2Fb/c": "bkt|a/b/c", "bkt//k": "bkt|/k", "bkt/a+b%20c": "bkt|a+b c",
		"bkt/k?versionId=null": "bkt|k", "bkt/k%3FversionId=x": "bkt|k?versionId=x"} {
		b, k, err := parseCopySource(in)
		if err != nil || b+"|"+k != want {
			t.Errorf("%q: %q %q %v", in, b, k, err)
		}
	}
	for in, want := range map[string]s3err.Code{"": s3err.InvalidArgument, "bkt": s3err.InvalidArgument, "bkt/": s3err.InvalidArgument,
		"bkt/%zz": s3err.InvalidArgument, "b/k": s3err.InvalidBucketName, "bkt/k?versionId=1": s3err.NoSuchVersion, "bkt/%ff": s3err.InvalidURI} {
		if _, _, err := parseCopySource(in); s3err.As(err) == nil || s3err.As(err).Code != want {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestUploadPages: pages of any size together are the whole listing.
func TestUploadPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := newFakeVolume()
		rq := &request{Server: New(Config{Volume: v}), r: mustRequest(), bucket: "bucket"}
		_ = v.CreateBucket(rq.ctx(), "bucket", "")
		for _, k := range rapid.SliceOfN(rapid.StringMatching(`[ab/]{1,4}`), 0, 12).Draw(t, "keys") {
			_, _ = v.CreateUpload(rq.ctx(), &UploadInput{Bucket: "bucket", Key: twofold.Key(k)})
		}
		prefix, delimiter := rapid.SampledFrom([]string{"", "a", "a/"}).Draw(t, "prefix"), rapid.SampledFrom([]string{"", "/", "b"}).Draw(t, "delimiter")
		whole, err := rq.collectUploads(prefix, delimiter, "", "", 1000)
		if err != nil || whole.more {
			t.Fatal(err, whole.more)
		}
		var got uploadsPage
		key, id, limit := "", "", rapid.IntRange(1, 3).Draw(t, "limit")
		for range 100 {
			p, err := rq.collectUploads(prefix, delimiter, key, id, limit)
			if err != nil || len(p.uploads)+len(p.prefixes) > limit {
				t.Fatal(err, len(p.uploads)+len(p.prefixes))
			}
			got.uploads, got.prefixes = append(got.uploads, p.uploads...), append(got.prefixes, p.prefixes...)
			if key, id = p.nextKey, p.nextID; !p.more {
				break
			}
		}
		if len(got.uploads) != len(whole.uploads) || strings.Join(got.prefixes, "|") != strings.Join(whole.prefixes, "|") {
			t.Fatalf("%d uploads and %q, want %d and %q", len(got.uploads), got.prefixes, len(whole.uploads), whole.prefixes)
		}
	})
}

func mustRequest() *http.Request {
	r, err := http.NewRequest("GET", "http://h/", nil)
	if err != nil {
		panic(err)
	}
	return r
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5", "bytes=9-", "bytes=0-1,3-4", "bytes=99999999999999999999-", "x"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		r, ok, err := parseRange(s, size)
		if ok && (err != nil || r.n < 1 || r.off < 0 || r.off > size-r.n) {
			t.Fatalf("%q of %d: %+v %v", s, size, r, err)
		}
		if c, err := parseCopyRange(s, size); err == nil && (c.n < 1 || c.off < 0 || c.off > size-c.n) {
			t.Fatalf("%q of %d: %+v", s, size, c)
		}
	})
}

func FuzzCopySource(f *testing.F) {
	f.Add("/bucket/key?versionId=null")
	f.Add("bucket/%2e%2e%ff")
	f.Fuzz(func(t *testing.T, s string) {
		b, k, err := parseCopySource(s)
		if err == nil && (!validBucketName(b) || k == "" || len(k) > twofold.MaxKeyLen || !utf8.ValidString(k)) {
			t.Fatalf("%q %q", b, k)
		}
		if err != nil && s3err.As(err) == nil {
			t.Fatal(err)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("AQ==")
	f.Add(makeToken("a/b"))
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := parseToken(makeToken(s)); err != nil || got != s {
			t.Fatalf("%q came back as %q, %v", s, got, err)
		}
		if last, err := parseToken(s); err == nil && makeToken(last) != s {
			t.Fatalf("%q is not how %q is written", s, last)
		}
	})
}

func FuzzPosix(f *testing.F) {
	f.Add("100644", "0", "1354040105.5")
	f.Add("33188", "4294967295", "2012-11-27T18:15:05.5Z")
	f.Fuzz(func(t *testing.T, mode, uid, mtime string) {
		meta := map[string]string{"mode": mode, "uid": uid, "mtime": mtime}
		p := posixOf(meta)
		if p == nil {
			return
		}
		if p.Mode != nil && *p.Mode > 0o777 || p.Mtime != nil && *p.Mtime == 0 {
			t.Fatalf("%+v", p)
		}
		perm, id, at := uint32(0o640), uint32(5), twofold.Time(1700000000123456789)
		now := metadata.PosixAttrs{Mode: &perm, UID: &id, Mtime: &at}
		again := posixOf(withPosix(meta, now))
		if p.Mode != nil && *again.Mode != perm || p.UID != nil && *again.UID != id || p.Mtime != nil && *again.Mtime != at {
			t.Fatalf("%v shown as %v", meta, withPosix(meta, now))
		}
	})
}

func FuzzConditions(f *testing.F) {
	f.Add(`"a", W/"b"`, "*", "Tue, 14 Nov 2023 22:13:22 GMT")
	f.Fuzz(func(t *testing.T, match, none, date string) {
		info := ObjectInfo{ETag: "a", Modified: 1700000000e9}
		c := conditions{match: match, noneMatch: none, modified: date, unmodified: date}
		if err := c.check(&info); err != nil && s3err.As(err) == nil {
			t.Fatal(err)
		}
	})
}
