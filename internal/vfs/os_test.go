package vfs_test

import (
	"testing"

	"twofold/internal/vfs"
	"twofold/internal/vfs/errorfs"
	"twofold/internal/vfs/memfs"
	"twofold/internal/vfs/vfstest"
)

func TestOS(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return vfs.OS(), t.TempDir() })
}

func TestMem(t *testing.T) {
	vfstest.Run(t, func(*testing.T) (vfs.FS, string) { return mem(t) })
}

func TestErrorWrapper(t *testing.T) {
	vfstest.Run(t, func(*testing.T) (vfs.FS, string) {
		m, dir := mem(t)
		return errorfs.New(m), dir
	})
}

func mem(t *testing.T) (vfs.FS, string) {
	m := memfs.New()
	if err := m.Mkdir("/dir"); err != nil {
		t.Fatal(err)
	}
	return m, "/dir"
}
