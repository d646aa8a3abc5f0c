package fsm

import (
	"encoding/binary"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (v *view) Upload(id twofold.UploadID) (*metadata.Upload, error) {
	u, err := v.upload(id)
	if u == nil && err == nil {
		err = errs.E("fsm.Upload", errs.NoUpload, nil)
	}
	return u, err
}

func (v *view) Uploads(b twofold.BucketID, prefix, afterKey twofold.Key, afterID twofold.UploadID, max int) (ups []metadata.Upload, more bool, err error) {
	base := num(pUploadKey, uint64(b))
	// The escape is per byte, so what starts with prefix starts with its escape.
	within := strings.TrimSuffix(uploadKeyPrefix(b, prefix), "\x00\x01")
	start := within
	if afterKey != "" {
		start = after(uploadByKey(b, afterKey, afterID))
	}
	err = v.prefixed(within, start, func(k, _ []byte) (bool, error) {
		if len(k) < len(base)+16 {
			return false, errNumber
		}
		if more = len(ups) == max; more {
			return false, nil
		}
		u, err := v.Upload(twofold.UploadID(k[len(k)-16:]))
		if err == nil {
			ups = append(ups, *u)
		}
		return true, err
	})
	return ups, more, err
}

func (v *view) Parts(id twofold.UploadID, last, max int) (parts []metadata.Part, more bool, err error) {
	if _, err := v.Upload(id); err != nil {
		return nil, false, err
	}
	prefix := id16(pPart, id)
	start := string(binary.BigEndian.AppendUint32([]byte(prefix), uint32(last)+1))
	err = v.prefixed(prefix, start, func(_, b []byte) (bool, error) {
		if more = len(parts) == max; more {
			return false, nil
		}
		p, err := metadata.DecodePart(b)
		if err == nil {
			parts = append(parts, *p)
		}
		return true, err
	})
	return parts, more, err
}
