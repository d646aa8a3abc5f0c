package volume

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// Inos implements api.Files.
func (s *Session) Inos(context.Context, int) (twofold.Ino, int, error) {
	return 0, 0, errs.Newf("volume.Inos", errs.Unsupported, "not built yet")
}

// Batch implements api.Files.
func (s *Session) Batch(context.Context, api.Batch) (api.BatchResult, error) {
	return api.BatchResult{Failed: -1}, errs.Newf("volume.Batch", errs.Unsupported, "not built yet")
}
