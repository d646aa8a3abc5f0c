package replica

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// inline reads an object's inline data.
func (c *client) inline(g *Group, key string) (data []byte, err error) {
	err = g.View(context.Background(), func(v metadata.View) error {
		i, err := v.Resolve(c.bucket, twofold.Key(key))
		if err != nil {
			return err
		}
		exts, err := v.Extents(i.Ino, 0, i.Size, 10)
		data = nil
		for _, e := range exts {
			data = append(data, e.Data...)
		}
		return err
	})
	return data, err
}

// spoil flips a byte of data where the leader's value files have it.
func spoil(t *testing.T, d Dir, data []byte) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(kvDir(d.g0()), "live-*", "values-*"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no value files", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(raw, data)
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{raw[at] ^ 1}, int64(at)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the data is in no value file")
}

// TestDamagedValue: a replica that can't read a value goes out, the others serve it,
// and it is made again. Where the others are no majority it stays, and the value alone
// is an error.
func TestDamagedValue(t *testing.T) {
	data := bytes.Repeat([]byte("inline data "), 300)
	t.Run("with peers", func(t *testing.T) {
		g := openTest(t, Options{Dirs: testDirs(t, 4), Bootstrap: true, NewMachine: newReal})
		c := newClient(t, g)
		if err := c.put(2, 0, "key", data); err != nil {
			t.Fatal(err)
		}
		victim, _ := leaderAndOthers(t, g)
		spoil(t, victim, data)
		if _, err := c.inline(g, "key"); !errs.Is(err, errs.Unavailable) {
			t.Errorf("from the damaged replica: %v", err)
		}
		wait(t, 20*time.Second, "it is out", settled(g, 3))
		if got, err := c.inline(g, "key"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("from the others: %d bytes, %v", len(got), err)
		}
		wait(t, 40*time.Second, "it is back", func() bool {
			return g.DriveBack(context.Background(), victim) == nil
		})
		wait(t, 20*time.Second, "four replicas", settled(g, 4))
		wait(t, 20*time.Second, "the same state", func() bool { // what it holds back, too: hold.go
			n := g.node(victim.Drive)
			return n != nil && bytes.Equal(content(t, n), content(t, g.leader()))
		})
	})
	t.Run("alone", func(t *testing.T) {
		g := openTest(t, Options{Dirs: testDirs(t, 1), Bootstrap: true, NewMachine: newReal})
		c := newClient(t, g)
		if err := c.put(2, 0, "key", data); err != nil {
			t.Fatal(err)
		}
		victim, _ := leaderAndOthers(t, g)
		spoil(t, victim, data)
		var damage *kv.Damage
		if _, err := c.inline(g, "key"); !errs.Is(err, errs.Corrupt) || !errors.As(err, &damage) {
			t.Errorf("the value: %v", err)
		}
		if err := c.put(3, 2, "key", data); err != nil {
			t.Fatal(err)
		}
		if got, err := c.inline(g, "key"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("written again: %d bytes, %v", len(got), err)
		}
	})
}
