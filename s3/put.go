package s3

import (
	"io"
	"net/http"

	"twofold"
)

// putObject stores an object.
func (rq *request) putObject() error {
	attrs, err := rq.attrs()
	if err != nil {
		return err
	}
	cond, err := rq.writeConditions()
	if err != nil {
		return err
	}
	b, err := rq.openBody(twofold.MaxPartLen)
	if err != nil {
		return err
	}
	defer rq.release(b)
	_, err = rq.volume.PutObject(rq.ctx(), &PutInput{
		Bucket: rq.bucket, Key: rq.key,
		Body: b, Size: b.size, Finish: b.finish,
		Attrs: attrs, Cond: cond,
	})
	if err != nil {
		return rq.bodyError(b, err)
	}
	h := rq.w.Header()
	h["ETag"] = []string{quote(b.result.ETag)}
	setChecksum(h, b.result.Checksum, true)
	return rq.empty(http.StatusOK)
}

// bodyError prefers what was wrong with the body over what the volume made of it.
func (rq *request) bodyError(b *body, err error) error {
	if b.err != nil && b.err != io.EOF {
		return b.err
	}
	return err
}

func quote(etag string) string { return `"` + etag + `"` }
