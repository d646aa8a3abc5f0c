package remote

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// numberedMethods are those whose context must carry api.SeqOf.
const numberedMethods = " Inos SetAttr Create Tmpfile CopyRange Link Unlink Rmdir Rename Open Release Write ReleaseWrite SetXattr RemoveXattr Promise Forget "

func genIno() *rapid.Generator[twofold.Ino] {
	return rapid.Custom(func(t *rapid.T) twofold.Ino { return twofold.Ino(rapid.Uint64Min(1).Draw(t, "ino")) })
}

func genName() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		// Any bytes but / and NUL: file names are not always UTF-8.
		b := rapid.SliceOfN(rapid.Byte(), 1, twofold.MaxNameLen-1).Draw(t, "name")
		for i, c := range b {
			if c == 0 || c == '/' {
				b[i] = 'x'
			}
		}
		return "n" + string(b)
	})
}

func genWrite() *rapid.Generator[api.Write] {
	return rapid.Custom(func(t *rapid.T) api.Write {
		w := api.Write{
			Token:    rapid.Uint64().Draw(t, "token"),
			Size:     rapid.Int64Range(0, twofold.MaxFileLen).Draw(t, "size"),
			Mtime:    twofold.Time(rapid.Int64().Draw(t, "mtime")),
			Atime:    twofold.Time(rapid.Int64().Draw(t, "atime")),
			ETag:     rapid.StringMatching(`[0-9a-f]{0,32}`).Draw(t, "etag"),
			KillPriv: rapid.Bool().Draw(t, "killpriv"),
		}
		var off int64
		for range rapid.IntRange(0, 4).Draw(t, "segments") {
			off += rapid.Int64Range(0, 1<<40).Draw(t, "gap")
			data := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "data")
			w.Segments = append(w.Segments, api.Segment{Off: off, Data: data})
			off += int64(len(data))
		}
		for range rapid.IntRange(0, 2).Draw(t, "holes") {
			w.Punch = append(w.Punch, metadata.Range{Off: rapid.Int64Range(0, 1<<40).Draw(t, "off"), Len: rapid.Int64Range(1, 1<<40).Draw(t, "len")})
		}
		return w
	})
}

// argument draws a valid argument of method m, by its type.
func argument(t *rapid.T, m reflect.Method, i int) reflect.Value {
	typ := m.Type.In(i)
	var v any
	switch typ {
	case reflect.TypeFor[twofold.Ino]():
		v = genIno().Draw(t, "ino")
	case reflect.TypeFor[string]():
		v = genName().Draw(t, "name")
	case reflect.TypeFor[api.Write]():
		v = genWrite().Draw(t, "write")
	case reflect.TypeFor[api.Create]():
		c := api.Create{Type: metadata.TypeSymlink, Target: genName().Draw(t, "target"), Mode: rapid.Uint32Range(0, 0o7777).Draw(t, "mode"),
			UID: rapid.Uint32().Draw(t, "uid"), GID: rapid.Uint32().Draw(t, "gid"), Rdev: rapid.Uint32().Draw(t, "rdev"), Exclusive: rapid.Bool().Draw(t, "excl")}
		if rapid.Bool().Draw(t, "file") {
			c.Type, c.Target = metadata.TypeFile, ""
		}
		v = c
	case reflect.TypeFor[api.SetAttr]():
		mode, size, at := rapid.Uint32Range(0, 0o7777).Draw(t, "mode"), rapid.Int64Range(0, twofold.MaxFileLen).Draw(t, "size"), twofold.Time(rapid.Int64().Draw(t, "time"))
		uid := rapid.Uint32().Draw(t, "uid")
		all := api.SetAttr{Mode: &mode, UID: &uid, GID: &uid, Size: &size, Atime: &at, Mtime: &at, Token: rapid.Uint64().Draw(t, "token"), KillPriv: rapid.Bool().Draw(t, "killpriv")}
		if rapid.Bool().Draw(t, "few") {
			all = api.SetAttr{Mode: &mode}
		}
		v = all
	case reflect.TypeFor[api.CopyRange]():
		at := rapid.Int64Range(0, twofold.MaxFileLen)
		v = api.CopyRange{Src: genIno().Draw(t, "src"), SrcOff: at.Draw(t, "srcoff"), SrcToken: rapid.Uint64().Draw(t, "srctoken"),
			Dst: genIno().Draw(t, "dst"), DstOff: at.Draw(t, "dstoff"), DstToken: rapid.Uint64().Draw(t, "dsttoken"), Len: at.Draw(t, "len"),
			Mtime: twofold.Time(rapid.Int64().Draw(t, "mtime")), KillPriv: rapid.Bool().Draw(t, "killpriv")}
	case reflect.TypeFor[[]twofold.Ino]():
		v = rapid.SliceOfN(genIno(), 1, 10).Draw(t, "inos")
	case reflect.TypeFor[[]byte]():
		v = rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "bytes")
	case reflect.TypeFor[int64]():
		most := int64(1 << 60)
		if m.Name == "Promise" {
			most = api.MaxPromise
		}
		v = rapid.Int64Range(0, most).Draw(t, "offset")
	case reflect.TypeFor[int]():
		v = rapid.IntRange(1, maxEntries).Draw(t, "max")
	case reflect.TypeFor[uint32]():
		v = rapid.Uint32Range(0, 2).Draw(t, "flags")
	case reflect.TypeFor[uint64]():
		v = rapid.Uint64Min(1).Draw(t, "token")
	case reflect.TypeFor[bool]():
		v = rapid.Bool().Draw(t, "bool")
	default:
		t.Fatalf("%s has an argument of type %v: teach the test", m.Name, typ)
	}
	return reflect.ValueOf(v)
}

// result draws a result of method m, by its type.
func result(t *rapid.T, m reflect.Method, i int) any {
	attr := func() api.Attr {
		a := rapid.Make[api.Attr]().Draw(t, "attr")
		return a
	}
	switch typ := m.Type.Out(i); typ {
	case reflect.TypeFor[api.Attr]():
		return attr()
	case reflect.TypeFor[api.Lease]():
		return api.Lease{Token: rapid.Uint64().Draw(t, "token"), Attr: attr(), Allowed: rapid.Int64Range(0, 1<<60).Draw(t, "allowed")}
	case reflect.TypeFor[api.DirLease]():
		return api.DirLease{Token: rapid.Uint64().Draw(t, "token"), Attr: attr(), Unlimited: rapid.Bool().Draw(t, "unlimited"), DefaultACL: rapid.Bool().Draw(t, "acl")}
	case reflect.TypeFor[twofold.Ino]():
		return genIno().Draw(t, "ino")
	case reflect.TypeFor[[]api.DirEntry]():
		var e []api.DirEntry
		for range rapid.IntRange(1, 5).Draw(t, "entries") {
			e = append(e, api.DirEntry{Name: genName().Draw(t, "name"), Cursor: genName().Draw(t, "cursor"), Attr: attr()})
		}
		return e
	case reflect.TypeFor[api.StatFS]():
		return rapid.Make[api.StatFS]().Draw(t, "statfs")
	case reflect.TypeFor[bool]():
		return rapid.Bool().Draw(t, "bool")
	case reflect.TypeFor[string]():
		return genName().Draw(t, "string")
	case reflect.TypeFor[[]string]():
		return rapid.SliceOfN(genName(), 1, 5).Draw(t, "strings")
	case reflect.TypeFor[[]byte]():
		return rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "bytes")
	case reflect.TypeFor[int64]():
		return rapid.Int64Range(-1, 1<<60).Draw(t, "n64")
	case reflect.TypeFor[int]():
		return rapid.IntRange(0, 200).Draw(t, "n") // of Read
	default:
		t.Fatalf("%s has a result of type %v: teach the test", m.Name, typ)
		return nil
	}
}

// TestEveryMethodCrosses calls every method of api.Files through a connection with
// drawn arguments, and compares what arrives, and what comes back.
func TestEveryMethodCrosses(t *testing.T) {
	var current atomic.Pointer[hook]
	st := newStore(func(*fakeSession) hook {
		return func(ctx context.Context, name string, args ...any) ([]any, error) {
			return (*current.Load())(ctx, name, args...)
		}
	})
	c := dialNode(t, startNode(t, st).addr, &mount{})
	files := reflect.TypeFor[api.Files]()
	for i := range files.NumMethod() {
		m := files.Method(i)
		if m.Name == "GetLock" || m.Name == "SetLock" {
			continue // the client answers some itself, and asks api.Locks: see locks_test.go
		}
		if m.Name == "Batch" {
			continue // TestBatchCrosses: its errors say what they are about
		}
		t.Run(m.Name, func(t *testing.T) { rapid.Check(t, func(rt *rapid.T) { crossOnce(t, rt, c, m, &current) }) })
	}
}

func crossOnce(t *testing.T, rt *rapid.T, c *Client, m reflect.Method, current *atomic.Pointer[hook]) {
	in := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < m.Type.NumIn(); i++ {
		in = append(in, argument(rt, m, i))
	}
	var want []any
	for i := range m.Type.NumOut() - 1 {
		want = append(want, result(rt, m, i))
	}
	var fail *errs.Error
	if rapid.IntRange(0, 3).Draw(rt, "fail") == 0 {
		fail = &errs.Error{Op: "some.Op", Kind: rapid.SampledFrom([]errs.Kind{errs.Other, errs.NotFound, errs.Stale, errs.Fenced, errs.NoAttr, errs.NotSupportedRename}).Draw(rt, "kind"), Msg: "why"}
	}
	data := rapid.SliceOfN(rapid.Byte(), 200, 200).Draw(rt, "content")
	var got []any
	var numbered bool
	h := hook(func(ctx context.Context, name string, args ...any) ([]any, error) {
		_, numbered = api.SeqOf(ctx)
		got = append([]any{name}, args...)
		if w, ok := args[len(args)-1].(api.Write); ok { // its buffers are only lent
			for i, s := range w.Segments {
				w.Segments[i].Data = append([]byte(nil), s.Data...)
			}
		}
		if name == "Read" {
			p := args[2].([]byte)
			n := copy(p, data)
			got[3] = len(p)
			want[0] = min(n, want[0].(int))
		}
		if fail != nil {
			return nil, fail
		}
		return want, nil
	})
	current.Store(&h)
	out := reflect.ValueOf(api.Files(c)).MethodByName(m.Name).Call(in)

	sent := []any{m.Name}
	for _, v := range in[1:] {
		if m.Name == "Read" && v.Type() == reflect.TypeFor[[]byte]() {
			sent = append(sent, v.Len())
			continue
		}
		sent = append(sent, v.Interface())
	}
	if d := cmp.Diff(sent, got, cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
		rt.Fatalf("sent and received (+) differ:\n%s", d)
	}
	if should := strings.Contains(numberedMethods, " "+m.Name+" "); numbered != should {
		rt.Fatalf("%s: numbered %v, should be %v", m.Name, numbered, should)
	}
	err, _ := out[len(out)-1].Interface().(error)
	if fail != nil {
		var e *errs.Error
		if !errors.As(err, &e) || *e != *fail {
			rt.Fatalf("got error %#v, want %#v", err, fail)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	for i := range want {
		if d := cmp.Diff(want[i], out[i].Interface(), cmpopts.EquateEmpty(), cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
			rt.Fatalf("result %d, answered and got (+) differ:\n%s", i, d)
		}
	}
	if m.Name == "Read" {
		n := want[0].(int)
		if d := cmp.Diff(data[:n], in[3].Interface().([]byte)[:n]); d != "" {
			rt.Fatalf("bytes differ:\n%s", d)
		}
	}
}
