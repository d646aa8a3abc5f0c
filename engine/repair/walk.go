package repair

import (
	"context"
	"errors"

	"twofold"
	"twofold/engine"
	"twofold/engine/erasure"
)

// walkChunk is how many blobs are collected before they are worked on: a walk holds
// listings of whole drives in memory, and healing or scrubbing takes long.
const walkChunk = 32 << 10

var errChunk = errors.New("a chunk is full")

// walk calls fn for the blobs of a set behind after that want picks, in ascending
// order, and returns the positions whose drives were walked to the end. No walk is
// under way during fn.
func (h *Healer) walk(ctx context.Context, set twofold.SetID, after twofold.BlobID,
	want func(engine.Found) bool, fn func(engine.Found) error) (erasure.Set, error) {
	asked := ^erasure.Set(0)
	var chunk []engine.Found
	for {
		chunk = chunk[:0]
		a, err := h.e.WalkSet(ctx, set, after, func(f engine.Found) error {
			if want(f) {
				chunk = append(chunk, f)
			}
			if len(chunk) == h.chunk {
				return errChunk
			}
			return nil
		})
		more := errors.Is(err, errChunk)
		if err != nil && !more {
			return 0, err
		}
		asked &= a
		for _, f := range chunk {
			if err := fn(f); err != nil {
				return asked, err
			}
			after = f.ID
		}
		if !more {
			return asked, nil
		}
	}
}
