package drives

import (
	"testing"
	"time"

	"twofold"
	"twofold/engine/drive"
	"twofold/engine/drive/drivetest"
)

// TestConformance: a drive of another node is a drive like a local one.
func TestConformance(t *testing.T) {
	for name, delay := range map[string]time.Duration{"direct": -1, "delayed": 200 * time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of its time bytes are on their way
			drivetest.Run(t, func(t *testing.T, c twofold.ClusterID) drive.Drive {
				d := local(t, c)
				return newNode(t, delay, ServerOptions{}, Options{}, d).remote(d.ID())
			})
		})
	}
}
