package node

import (
	"context"
	"testing"

	"twofold"
	"twofold/engine"
	"twofold/internal/errs"
	"twofold/volume"
)

// without has too few drives for anything.
type without struct {
	volume.Blobs
	volume.Placer
	kind errs.Kind
}

func (w *without) err() error { return errs.Newf("test", w.kind, "too few drives") }

func (w *without) ReadAt(context.Context, twofold.Blob, []byte, int64) (int, error) {
	return 0, w.err()
}
func (w *without) Open(context.Context, twofold.Blob) (*engine.BlobReader, error) {
	return nil, w.err()
}
func (w *without) Writable() error { return w.err() }
func (w *without) Place(string, string) (twofold.SetID, int, error) {
	return twofold.SetID{}, 0, w.err()
}

// TestTooFewDrivesLately: too few drives are something that passes, just after a node was
// lost, so that mounts keep what they have to write; and after that they are not.
func TestTooFewDrivesLately(t *testing.T) {
	w, now := &without{}, true
	p := patient{lately: func() bool { return now }}
	blobs, place := patientBlobs{w, p}, patientPlacer{w, p}
	all := func() map[string]error {
		out := map[string]error{"Writable": place.Writable()}
		_, out["ReadAt"] = blobs.ReadAt(t.Context(), twofold.Blob{}, nil, 0)
		_, out["Open"] = blobs.Open(t.Context(), twofold.Blob{})
		_, _, out["Place"] = place.Place("", "")
		return out
	}
	for _, c := range []struct {
		kind   errs.Kind
		lately bool
		want   errs.Kind
	}{
		{errs.WriteQuorum, true, errs.Unavailable},
		{errs.ReadQuorum, true, errs.Unavailable},
		{errs.WriteQuorum, false, errs.WriteQuorum},
		{errs.ReadQuorum, false, errs.ReadQuorum},
		{errs.NoSpace, true, errs.NoSpace},
	} {
		w.kind, now = c.kind, c.lately
		for op, err := range all() {
			if errs.KindOf(err) != c.want {
				t.Errorf("%s: %v, a node lost lately: %t: got %v", op, c.kind, c.lately, err)
			}
		}
	}
}
