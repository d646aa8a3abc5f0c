package volume

import (
	"context"

	"twofold/metadata"
)

// Config returns a cluster-wide value; nil where there is none.
func (v *Volume) Config(ctx context.Context, name string) (value []byte, err error) {
	err = v.Meta.View(ctx, func(w metadata.View) error {
		value, err = w.Config(name)
		return err
	})
	return value, err
}

// SetConfig stores a cluster-wide value, durably.
func (v *Volume) SetConfig(ctx context.Context, name string, value []byte) error {
	_, err := v.commit(ctx, metadata.OpSetConfig, metadata.SetConfig{Name: name, Value: value})
	return err
}
