package drive_test

import (
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
	"twofold/internal/vfs"
)

// testFormat is the format of the only drive of a cluster.
func testFormat(c twofold.ClusterID) drive.Format {
	return drive.Format{Cluster: c, Drive: twofold.NewUUID(), Sets: 1, SetSize: 1, Created: twofold.Now()}
}

// open formats and opens a drive.
func open(t testing.TB, fsys vfs.FS, dir string, c twofold.ClusterID) *drive.Local {
	t.Helper()
	if err := drive.WriteFormat(fsys, dir, testFormat(c)); err != nil {
		t.Fatal(err)
	}
	d, err := drive.Open(t.Context(), drive.Options{FS: fsys, Path: dir, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestConformanceOS(t *testing.T) {
	drivetest.Run(t, func(t *testing.T, c twofold.ClusterID) drive.Drive {
		return open(t, vfs.OS(), t.TempDir(), c)
	})
}
