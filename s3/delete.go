package s3

import (
	"net/http"
	"sync"
	"sync/atomic"

	"twofold"
	"twofold/metadata"
	"twofold/s3/s3err"
	"twofold/s3/wire"
)

// deleteWorkers is how many keys of one DeleteObjects are deleted at once: enough
// for them to share the metadata's fsyncs.
const deleteWorkers = 64

func (rq *request) deleteObject() error {
	h := rq.r.Header
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if h.Get(name) != "" {
			return s3err.Msg(s3err.NotImplemented, "", s3err.Field{Name: "Header", Value: name})
		}
	}
	cond := metadata.Conditions{IfMatch: unquote(h.Get("If-Match"))}
	if err := rq.volume.DeleteObject(rq.ctx(), rq.bucket, rq.key, cond); err != nil {
		return err
	}
	return rq.empty(http.StatusNoContent)
}

// deleteObjects deletes up to 1,000 keys, each with its own result.
func (rq *request) deleteObjects() error {
	if err := rq.needDigest(); err != nil {
		return err
	}
	body, _, err := rq.readAll(wire.MaxBody)
	if err != nil {
		return err
	}
	del, err := wire.ParseDelete(body)
	if err != nil {
		return err
	}
	if _, err := rq.volume.HeadBucket(rq.ctx(), rq.bucket); err != nil {
		return err
	}
	results := rq.deleteAll(del.Objects)
	const root = "DeleteResult"
	w, buf := rq.xml(root)
	for i, o := range del.Objects {
		if err := results[i]; err != nil {
			e := toS3(err)
			w.Open("Error")
			w.Text("Key", o.Key)
			w.Opt("VersionId", o.VersionID)
			w.Text("Code", string(e.Code))
			w.Text("Message", e.Text())
			w.Close("Error")
		} else if !del.Quiet {
			w.Open("Deleted")
			w.Text("Key", o.Key)
			w.Opt("VersionId", o.VersionID)
			w.Close("Deleted")
		}
	}
	return rq.reply(w, root, buf)
}

// needDigest demands a digest of the body, as S3 does for DeleteObjects.
func (rq *request) needDigest() error {
	h := rq.r.Header
	if h.Get("Content-Md5") != "" || h.Get("X-Amz-Sdk-Checksum-Algorithm") != "" || h.Get("X-Amz-Trailer") != "" {
		return nil
	}
	for _, name := range checksumHeaders() {
		if h.Get(name) != "" {
			return nil
		}
	}
	return s3err.Msg(s3err.InvalidRequest, "Missing required header for this request: Content-MD5")
}

func (rq *request) deleteAll(objects []wire.DeleteKey) []error {
	results := make([]error, len(objects))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(deleteWorkers, len(objects)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(objects)); i = next.Add(1) - 1 {
				results[i] = rq.deleteOne(&objects[i])
			}
		})
	}
	wg.Wait()
	return results
}

func (rq *request) deleteOne(o *wire.DeleteKey) error {
	if err := checkKey(o.Key); err != nil {
		return err
	}
	if o.VersionID != "" && o.VersionID != "null" {
		return s3err.New(s3err.NoSuchVersion)
	}
	return rq.volume.DeleteObject(rq.ctx(), rq.bucket, twofold.Key(o.Key), metadata.Conditions{IfMatch: unquote(o.ETag)})
}
