package acl

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"twofold/internal/errs"
)

// parse reads entries in the short text form of acl(5), in the order they are given:
// "u::rwx,u:7:r--,g::r-x,m::r-x,o::---".
func parse(t *testing.T, text string) (a ACL) {
	t.Helper()
	for one := range strings.SplitSeq(text, ",") {
		f := strings.Split(one, ":")
		e := Entry{ID: NoID}
		if f[1] != "" {
			if _, err := fmt.Sscan(f[1], &e.ID); err != nil {
				t.Fatal(text, err)
			}
		}
		e.Tag = map[string]Tag{"u": UserObj, "u+": User, "g": GroupObj, "g+": Group, "m": Mask, "o": Other}[f[0]+map[bool]string{true: "+"}[f[1] != ""]]
		for i, c := range "rwx" {
			if f[2][i] == byte(c) {
				e.Perm |= 4 >> i
			}
		}
		a = append(a, e)
	}
	return a
}

// The bytes that Linux gives for setfacl -m u:1000:rw on a file of mode 0640.
func TestFrozen(t *testing.T) {
	want := "02000000" + "01000600ffffffff" + "02000600e8030000" + "04000400ffffffff" + "10000600ffffffff" + "20000000ffffffff"
	a := parse(t, "u::rw-,u:1000:rw-,g::r--,m::rw-,o::---")
	if got := hex.EncodeToString(a.Encode()); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	b, _ := hex.DecodeString(want)
	if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, a) {
		t.Fatalf("%v, %v", got, err)
	}
	// What an entry without an id says there is ignored, and not kept.
	copy(b[8:], []byte{1, 2, 3, 4})
	if got, err := Parse(b); err != nil || !bytes.Equal(got.Encode(), a.Encode()) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	ok := parse(t, "u::rw-,g::r--,o::---").Encode()
	for name, c := range map[string]struct {
		b    []byte
		want errs.Kind
	}{
		"nothing":   {nil, errs.Invalid},
		"short":     {ok[:3], errs.Invalid},
		"half":      {ok[:len(ok)-1], errs.Invalid},
		"version 1": {append([]byte{1}, ok[1:]...), errs.Unsupported},
		"long":      {append(ok, make([]byte, MaxLen)...), errs.TooLarge},
		"tag 0":     {append(ok, make([]byte, 8)...), errs.Invalid},
	} {
		if a, err := Parse(c.b); !errs.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if a, err := Parse(ok[:4]); a != nil || err != nil {
		t.Errorf("no entries: %v, %v; want none", a, err)
	}
}

func TestCheck(t *testing.T) {
	for text, valid := range map[string]bool{
		"u::rwx,g::rwx,o::rwx":                              true,
		"u::rwx,g::rwx,m::---,o::rwx":                       true,
		"u::rwx,u:1:r--,u:2:r--,g::rwx,g:1:---,m::-w-,o::-": true,
		"u::rwx,u:2:r--,u:1:r--,u:1:-w-,g::r--,m::-w-,o::-": true, // in any order, as on Linux
		"u::rwx,g::rwx":                                     false,
		"u::rwx,o::rwx":                                     false,
		"g::rwx,o::rwx":                                     false,
		"u::rwx,u::rwx,g::rwx,o::rwx":                       false,
		"u::rwx,g::rwx,g::rwx,o::rwx":                       false,
		"u::rwx,g::rwx,o::rwx,o::rwx":                       false,
		"u::rwx,g::rwx,m::rwx,m::rwx,o::rwx":                false,
		"u::rwx,g::rwx,o::rwx,m::rwx":                       false,
		"g::rwx,u::rwx,o::rwx":                              false,
		"u::rwx,u:1:rwx,g::rwx,o::rwx":                      false, // no mask
		"u::rwx,g::rwx,g:1:rwx,o::rwx":                      false,
		"u::rwx,u:4294967295:r--,g::r,m::r,o::--":           false,
	} {
		text := pad(text)
		if err := parse(t, text).Check(); (err == nil) != valid {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := (ACL{{UserObj, 8, NoID}, {GroupObj, 0, NoID}, {Other, 0, NoID}}).Check(); !errs.Is(err, errs.Invalid) {
		t.Errorf("permissions 010: %v", err)
	}
}

// pad makes permissions three letters long.
func pad(text string) string {
	f := strings.Split(text, ",")
	for i := range f {
		at := strings.LastIndexByte(f[i], ':') + 1
		f[i] = f[i][:at] + (f[i][at:] + "---")[:3]
	}
	return strings.Join(f, ",")
}

func TestMode(t *testing.T) {
	for text, want := range map[string]struct {
		perm uint32
		same bool
	}{
		"u::rwx,g::r-x,o::--x":                {0o751, true},
		"u::rwx,g::r-x,m::-w-,o::--x":         {0o721, false},
		"u::rw-,u:5:rwx,g::r--,m::rwx,o::---": {0o670, false},
		"u::---,g::rwx,g:5:rwx,m::---,o::---": {0o000, false},
	} {
		if perm, same := parse(t, text).Mode(); perm != want.perm || same != want.same {
			t.Errorf("%s: %#o, %v", text, perm, same)
		}
	}
}

func TestChmod(t *testing.T) {
	for _, c := range []struct {
		acl  string
		mode uint32
		want string
	}{
		{"u::rwx,g::r-x,o::--x", 0o624, "u::rw-,g::-w-,o::r--"},
		{"u::rwx,u:5:rwx,g::r-x,m::rwx,o::--x", 0o624, "u::rw-,u:5:rwx,g::r-x,m::-w-,o::r--"},
		{"u::rwx,u:5:rwx,g::r-x,m::rwx,o::--x", 0o6000, "u::---,u:5:rwx,g::r-x,m::---,o::---"},
	} {
		a := parse(t, c.acl)
		if got := a.Chmod(c.mode); !reflect.DeepEqual(got, parse(t, c.want)) {
			t.Errorf("chmod %#o of %s: %v", c.mode, c.acl, got)
		}
		if !reflect.DeepEqual(a, parse(t, c.acl)) {
			t.Errorf("%s changed", c.acl)
		}
	}
}

// As fs/posix_acl.c has it for open(O_CREAT) and mkdir with the mode, under any umask.
func TestInherit(t *testing.T) {
	for _, c := range []struct {
		acl  string
		mode uint32
		want string // "": none
		perm uint32
	}{
		{"u::rwx,g::r-x,o::---", 0o666, "", 0o640},
		{"u::rwx,g::rwx,o::rwx", 0o777, "", 0o777},
		{"u::r--,g::rwx,o::rwx", 0o700, "", 0o400},
		{"u::rwx,u:5:rwx,g::r-x,m::rwx,o::---", 0o666, "u::rw-,u:5:rwx,g::r-x,m::rw-,o::---", 0o660},
		{"u::rwx,u:5:rwx,g::r-x,m::rwx,o::r-x", 0o777, "u::rwx,u:5:rwx,g::r-x,m::rwx,o::r-x", 0o775},
		{"u::rwx,u:5:rwx,g::r-x,m::r-x,o::r-x", 0o640, "u::rw-,u:5:rwx,g::r-x,m::r--,o::---", 0o640},
		{"u::rwx,g::r-x,m::rwx,o::r-x", 0o600, "u::rw-,g::r-x,m::---,o::---", 0o600},
	} {
		a := parse(t, c.acl)
		got, perm := a.Inherit(c.mode)
		var want ACL
		if c.want != "" {
			want = parse(t, c.want)
		}
		if !reflect.DeepEqual(got, want) || perm != c.perm {
			t.Errorf("%#o in %s: %v, %#o", c.mode, c.acl, got, perm)
		}
		if !reflect.DeepEqual(a, parse(t, c.acl)) {
			t.Errorf("%s changed", c.acl)
		}
	}
}

// FuzzParse: what is accepted is kept as it is, and stays valid and in step with the mode.
func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{
		nil, {2, 0, 0, 0},
		ACL{{UserObj, 6, NoID}, {GroupObj, 4, NoID}, {Other, 0, NoID}}.Encode(),
		ACL{{UserObj, 6, NoID}, {User, 7, 1000}, {GroupObj, 4, NoID}, {Group, 1, 7}, {Mask, 6, NoID}, {Other, 0, NoID}}.Encode(),
	} {
		f.Add(b, uint16(0o640))
	}
	f.Fuzz(func(t *testing.T, b []byte, mode uint16) {
		a, err := Parse(b)
		if err != nil || a == nil {
			return
		}
		if again, err := Parse(a.Encode()); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%v again: %v, %v", a, again, err)
		}
		m := uint32(mode) & 0o777
		c := a.Chmod(m)
		if got, _ := c.Mode(); got != m || c.Check() != nil {
			t.Fatalf("chmod %#o of %v: %v, %#o", m, a, c, got)
		}
		access, perm := a.Inherit(m)
		was, same := a.Mode()
		if perm != m&was || (access == nil) != same {
			t.Fatalf("%#o in %v: %v, %#o", m, a, access, perm)
		}
		if access != nil {
			if got, _ := access.Mode(); got != perm || access.Check() != nil {
				t.Fatalf("%#o in %v: %v, %#o", m, a, access, perm)
			}
		}
	})
}
