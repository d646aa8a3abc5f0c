package wire

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"twofold/s3/s3err"
)

// TestEscaped: any text makes well-formed XML, and text that XML 1.0 can carry
// comes back as it was.
func TestEscaped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		w := NewWriter(nil, "R")
		w.Text("K", s)
		w.Close("R")
		var got struct{ K string }
		if err := xml.Unmarshal(w.Bytes(), &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		want := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
				return utf8.RuneError
			}
			return r
		}, s)
		if got.K != want {
			t.Fatalf("%q came back as %q", want, got.K)
		}
	})
}

func TestTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-60e9, 250e9).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
		want := at.Format("2006-01-02T15:04:05.000Z")
		if got := string(appendTime(nil, at)); got != want && at.Year() >= 0 {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func TestParseDelete(t *testing.T) {
	del, err := ParseDelete([]byte(`<?xml version="1.0"?><!-- c --><Delete xmlns="x"><Quiet>true</Quiet><Object><Key> a&amp;&#x20AC;
b</Key></Object><Object><Key>b</Key><VersionId>null</VersionId><ETag>"e"</ETag></Object></Delete>`))
	if err != nil || !del.Quiet || len(del.Objects) != 2 || del.Objects[0].Key != " a&€\nb" || del.Objects[1].ETag != `"e"` {
		t.Fatalf("%+v %v", del, err)
	}
	many := strings.Repeat("<Object><Key>k</Key></Object>", MaxDelete)
	if _, err := ParseDelete([]byte("<Delete>" + many + "</Delete>")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []string{"", "x", "<Delete>", "<Delete></Delete>", "<Other></Other>", "<Delete><Object></Object></Delete>",
		"<Delete><Object><Key></Key></Object></Delete>", "<Delete>" + many + "<Object><Key>k</Key></Object></Delete>",
		"<Delete><Object><Key>k</Key></Object></Delete><Delete/>", "<Delete><Object><Key>\x01</Key></Object></Delete>",
		"<Delete><Object><Key>\xff</Key></Object></Delete>", "<Delete><Object><Key>k</Key></Object><Quiet>maybe</Quiet></Delete>",
		"<!DOCTYPE d [<!ENTITY a 'b'>]><Delete><Object><Key>&a;</Key></Object></Delete>",
		strings.Repeat("<Delete>", 20) + strings.Repeat("</Delete>", 20),
	} {
		if _, err := ParseDelete([]byte(x)); s3err.As(err) == nil || s3err.As(err).Code != s3err.MalformedXML {
			t.Errorf("%.60q: %v", x, err)
		}
	}
	if _, err := ParseDelete([]byte("<Delete><Object><Key>k</Key><Size>1</Size></Object></Delete>")); s3err.As(err).Code != s3err.NotImplemented {
		t.Error(err)
	}
}

func TestParseComplete(t *testing.T) {
	parts, err := ParseComplete([]byte(`<CompleteMultipartUpload><Part><ETag>"a"</ETag><PartNumber>1</PartNumber><ChecksumCRC32>x</ChecksumCRC32></Part></CompleteMultipartUpload>`), 2)
	if err != nil || len(parts) != 1 || parts[0].Number != 1 || parts[0].ETag != `"a"` || parts[0].Checksums["CRC32"] != "x" {
		t.Fatalf("%+v %v", parts, err)
	}
	part := "<Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>"
	for _, x := range []string{"", "<CompleteMultipartUpload/>", "<CompleteMultipartUpload>" + part + part + part + "</CompleteMultipartUpload>",
		"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>",
		"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"} {
		if _, err := ParseComplete([]byte(x), 2); s3err.As(err) == nil || s3err.As(err).Code != s3err.MalformedXML {
			t.Errorf("%.60q: %v", x, err)
		}
	}
}

func TestParseBucketConfig(t *testing.T) {
	for x, want := range map[string]BucketConfig{
		"": {},
		`<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>`: {Location: "eu"},
		`<CreateBucketConfiguration/>`: {},
		`<CreateBucketConfiguration><Tags><Tag><Key>a</Key></Tag></Tags></CreateBucketConfiguration>`: {Other: true},
	} {
		if got, err := ParseBucketConfig([]byte(x)); err != nil || got != want {
			t.Errorf("%q: %+v %v", x, got, err)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(`<Delete><Object><Key>k</Key></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if del, err := ParseDelete(b); err == nil && (len(del.Objects) == 0 || len(del.Objects) > MaxDelete) {
			t.Fatal(len(del.Objects))
		} else if err != nil && s3err.As(err) == nil {
			t.Fatal(err)
		}
		if parts, err := ParseComplete(b, 3); err == nil && (len(parts) == 0 || len(parts) > 3) {
			t.Fatal(len(parts))
		} else if err != nil && s3err.As(err) == nil {
			t.Fatal(err)
		}
		if _, err := ParseBucketConfig(b); err != nil && s3err.As(err) == nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkList1000(b *testing.B) {
	var buf []byte
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("some/prefix/object-%06d.dat", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := NewWriter(buf, "ListBucketResult")
		for _, k := range keys {
			w.Open("Contents")
			w.Text("Key", k)
			w.ETag("ETag", "781e5e245d69b566979b86e28d23f2c7")
			w.Int("Size", 4096)
			w.Close("Contents")
		}
		w.Close("ListBucketResult")
		buf = w.Bytes()
	}
}
