package memdrive

import (
	"testing"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
)

// TestConformance: the engine's tests run on a drive that does what the real one does.
func TestConformance(t *testing.T) {
	drivetest.Run(t, func(_ *testing.T, c twofold.ClusterID) drive.Drive {
		d := New("memory")
		d.SetCluster(c)
		return d
	})
}
