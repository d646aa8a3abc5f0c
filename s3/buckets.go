package s3

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"twofold/s3/s3err"
	"twofold/s3/wire"
)

// The one owner of everything, until there are users.
const (
	ownerID   = "3f6f1b9e5a1d4c0b8e2f7a6d9c5b4e3f2a1d0c9b8e7f6a5d4c3b2a1908f7e6d5"
	ownerName = "twofold"
)

func writeOwner(w *wire.Writer, tag string) {
	w.Open(tag)
	w.Text("ID", ownerID)
	w.Text("DisplayName", ownerName)
	w.Close(tag)
}

// listBuckets lists all of them, or pages where the client asks for that.
func (rq *request) listBuckets() error {
	limit := 10000
	if v, ok := rq.q.Lookup("max-buckets"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > limit {
			return s3err.Arg("max-buckets", v, "Argument max-buckets must be an integer between 1 and 10000")
		}
		limit = n
	}
	after := ""
	if v, ok := rq.q.Lookup("continuation-token"); ok {
		var err error
		if after, err = parseToken(v); err != nil {
			return err
		}
	}
	buckets, err := rq.volume.ListBuckets(rq.ctx())
	if err != nil {
		return err
	}
	const root = "ListAllMyBucketsResult"
	w, buf := rq.xml(root)
	writeOwner(w, "Owner")
	w.Open("Buckets")
	prefix, region := rq.q.Get("prefix"), rq.q.Get("bucket-region")
	last, more := "", false
	for _, b := range buckets {
		name := string(b.Name)
		if name <= after || !strings.HasPrefix(name, prefix) || region != "" && region != rq.region {
			continue
		}
		if limit == 0 {
			more = true
			break
		}
		limit--
		last = name
		w.Open("Bucket")
		w.Text("Name", name)
		w.Time("CreationDate", b.Created.Time())
		w.Text("BucketRegion", rq.region)
		w.Close("Bucket")
	}
	w.Close("Buckets")
	w.Opt("Prefix", prefix)
	if more {
		w.Text("ContinuationToken", makeToken(last))
	}
	return rq.reply(w, root, buf)
}

// createBucket makes a bucket in this server's region.
func (rq *request) createBucket() error {
	body := []byte(nil)
	if rq.r.ContentLength != 0 {
		var err error
		if body, _, err = rq.readAll(wire.MaxBody); err != nil {
			return err
		}
	}
	cfg, err := wire.ParseBucketConfig(body)
	if err != nil {
		return err
	}
	if cfg.Other {
		return rq.notImplemented()
	}
	if cfg.Location != "" && cfg.Location != rq.region {
		if rq.region == DefaultRegion {
			return s3err.New(s3err.InvalidLocationConstraint)
		}
		return s3err.Msg(s3err.IllegalLocationConstraintException, "The "+cfg.Location+" location constraint is incompatible for the region specific endpoint this request was sent to.")
	}
	if err := rq.volume.CreateBucket(rq.ctx(), rq.bucket, rq.region); err != nil {
		return err
	}
	rq.w.Header()["Location"] = []string{"/" + string(rq.bucket)}
	return rq.empty(http.StatusOK)
}

func (rq *request) headBucket() error {
	if _, err := rq.volume.HeadBucket(rq.ctx(), rq.bucket); err != nil {
		return err
	}
	h := rq.w.Header()
	h["x-amz-bucket-region"] = []string{rq.region}
	h["Content-Type"] = rq.static.xml
	rq.writeHeader(http.StatusOK)
	return nil
}

func (rq *request) deleteBucket() error {
	if err := rq.volume.DeleteBucket(rq.ctx(), rq.bucket); err != nil {
		return err
	}
	return rq.empty(http.StatusNoContent)
}

// getBucketLocation answers the region; us-east-1 is the empty string, as in AWS.
func (rq *request) getBucketLocation() error {
	if _, err := rq.volume.HeadBucket(rq.ctx(), rq.bucket); err != nil {
		return err
	}
	region := rq.region
	if region == DefaultRegion {
		region = ""
	}
	b := append([]byte(wire.Header), `<LocationConstraint xmlns="`+wire.Namespace+`">`...)
	b = wire.AppendEscaped(b, region)
	rq.answer(http.StatusOK, append(b, "</LocationConstraint>"...))
	return nil
}

// tokenVersion begins every token, so that the form can change.
const tokenVersion = 1

// makeToken makes an opaque continuation token of the last name that was listed.
func makeToken(last string) string {
	b := append(make([]byte, 0, len(last)+5), tokenVersion)
	b = append(b, tokenSum(last)...)
	return base64.URLEncoding.EncodeToString(append(b, last...))
}

// parseToken reads it back. InvalidArgument for what makeToken did not make.
func parseToken(v string) (string, error) {
	b, err := base64.URLEncoding.Strict().DecodeString(v)
	if err != nil || len(b) < 5 || b[0] != tokenVersion || string(b[1:5]) != string(tokenSum(string(b[5:]))) {
		return "", s3err.Arg("continuation-token", v, "The continuation token provided is incorrect")
	}
	return string(b[5:]), nil
}
