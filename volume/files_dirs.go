package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// AcquireDir implements api.Files.
func (s *Session) AcquireDir(context.Context, twofold.Ino) (api.DirLease, error) {
	return api.DirLease{}, errs.Newf("volume.AcquireDir", errs.Unsupported, "not built yet")
}
