package volume

import (
	"testing"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// TestCopyIsOneOperation: what happens to the source between the look at it and the
// command is in the copy: another PUT, user metadata, the deletion of the key.
func TestCopyIsOneOperation(t *testing.T) {
	h := newHarness(t)
	h.bucket("docs")
	m := h.mount()
	copyWhile := func(meanwhile func()) (meta string, err error) {
		looks := 0
		h.put("docs", "a", []byte("one"))
		_, err = h.v.CopyObject(ctx, &api.CopyInput{
			SrcBucket: "docs", SrcKey: "a", Bucket: "docs", Key: "b",
			Prepare: func(s api.ObjectInfo) (api.Attrs, api.Sum, error) {
				if looks++; looks == 1 {
					meanwhile()
				}
				meta = s.UserMeta["k"]
				return api.Attrs{UserMeta: s.UserMeta}, api.Sum{ETag: s.ETag}, nil
			},
		})
		return meta, err
	}
	if _, err := copyWhile(func() { h.put("docs", "a", []byte("two")) }); err != nil || string(h.get("docs", "b")) != "two" {
		t.Errorf("a PUT: %v, %q", err, h.get("docs", "b"))
	}
	meta, err := copyWhile(func() {
		if err := m.s.SetXattr(ctx, m.lookup("docs", "a").Ino, "user.k", []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil || meta != "v" {
		t.Errorf("setxattr: %v, %q", err, meta)
	}
	_, err = copyWhile(func() {
		if err := m.s.Rename(ctx, m.lookup("docs").Ino, "a", m.lookup("docs").Ino, "c", 0); err != nil {
			t.Fatal(err)
		}
	})
	if !errs.Is(err, errs.NotFound) {
		t.Errorf("rename of the source: %v", err)
	}
}
