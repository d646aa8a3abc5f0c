package e2e

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// TestPosix runs go-fuse's conformance tests in the mount of a real store. fusefs runs
// them over a volume in memory (TestPosix there): here answers come from the metadata
// and the engine.
func TestPosix(t *testing.T) {
	leftOut := map[string]string{
		"FcntlFlockLocksFile": "wants locks of one process to exclude each other, which they don't (fcntl(2)); go-fuse skips it itself",
		"OpenSymlinkRace":     "passes, in half a minute",
	}
	s := newStore(t)
	noErr(t, os.Mkdir(s.Path("posix"), 0o755))
	for name, f := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why := leftOut[name]; why != "" {
				t.Skip(why)
			}
			dir := s.Path("posix", name)
			noErr(t, os.Mkdir(dir, 0o755))
			f(t, dir)
		})
	}
}
