package s3

import (
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"twofold"
	"twofold/s3/checksum"
	"twofold/s3/s3err"
)

const maxPartNumber = twofold.MaxParts

func badPartNumber(v string) error {
	return s3err.Arg("partNumber", v, "Part number must be an integer between 1 and 10000, inclusive")
}

// uploadRef reads which upload a request is about. An id that was never given out
// is NoSuchUpload.
func (rq *request) uploadRef() (UploadRef, error) {
	v := rq.q.Get("uploadId")
	id, err := parseUploadID(v)
	if err != nil {
		return UploadRef{}, s3err.Msg(s3err.NoSuchUpload, "", s3err.Field{Name: "UploadId", Value: v})
	}
	return UploadRef{Bucket: rq.bucket, Key: rq.key, ID: id}, nil
}

// formatUploadID writes an id as clients see it: hexadecimal digits alone, since
// some put it into URLs as it is.
func formatUploadID(id twofold.UploadID) string { return hex.EncodeToString(id[:]) }

func parseUploadID(v string) (id twofold.UploadID, err error) {
	if len(v) != 2*len(id) {
		return id, hex.ErrLength
	}
	_, err = hex.Decode(id[:], []byte(v))
	return id, err
}

// createUpload starts a multipart upload.
func (rq *request) createUpload() error {
	attrs, err := rq.attrs()
	if err != nil {
		return err
	}
	algo, typ, err := rq.uploadChecksum()
	if err != nil {
		return err
	}
	id, err := rq.volume.CreateUpload(rq.ctx(), &UploadInput{Bucket: rq.bucket, Key: rq.key, Attrs: attrs,
		Algo: string(algo), AlgoType: typ})
	if err != nil {
		return err
	}
	if algo != "" {
		h := rq.w.Header()
		h["x-amz-checksum-algorithm"] = []string{string(algo)}
		h["x-amz-checksum-type"] = []string{typ}
	}
	const root = "InitiateMultipartUploadResult"
	w, buf := rq.xml(root)
	w.Text("Bucket", string(rq.bucket))
	w.Text("Key", string(rq.key))
	w.Text("UploadId", formatUploadID(id))
	return rq.reply(w, root, buf)
}

// uploadChecksum reads which checksum an upload shall have.
func (rq *request) uploadChecksum() (algo checksum.Algorithm, typ string, err error) {
	h := rq.r.Header
	algo = checksum.Algorithm(strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm")))
	typ = strings.ToUpper(h.Get("X-Amz-Checksum-Type"))
	if algo == "" {
		if typ != "" {
			return "", "", s3err.Msg(s3err.InvalidRequest, "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return "", "", nil
	}
	if !algo.Valid() {
		return "", "", s3err.Msg(s3err.InvalidRequest, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	if typ == "" {
		typ = algo.DefaultType()
	}
	if typ != checksum.FullObject && typ != checksum.Composite {
		return "", "", s3err.Msg(s3err.InvalidRequest, "Value for x-amz-checksum-type header is invalid.")
	}
	if !algo.ValidType(typ) {
		return "", "", s3err.Msg(s3err.InvalidRequest, "The "+typ+" checksum type cannot be used with the "+strings.ToLower(string(algo))+" checksum algorithm.")
	}
	return algo, typ, nil
}

func (rq *request) partNumber() (int, error) {
	v := rq.q.Get("partNumber")
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxPartNumber {
		return 0, badPartNumber(v)
	}
	return n, nil
}

// uploadPart stores a part.
func (rq *request) uploadPart() error {
	ref, err := rq.uploadRef()
	if err != nil {
		return err
	}
	number, err := rq.partNumber()
	if err != nil {
		return err
	}
	up, err := rq.volume.GetUpload(rq.ctx(), ref)
	if err != nil {
		return err
	}
	b, err := rq.openBody(twofold.MaxPartLen)
	if err != nil {
		return err
	}
	defer rq.release(b)
	if up.Algo != "" {
		switch want := checksum.Algorithm(up.Algo); {
		case b.algo == "":
			b.compute(want)
		case b.algo != want:
			return s3err.Msg(s3err.InvalidRequest, "Checksum Type mismatch occurred, expected checksum Type: "+
				strings.ToLower(up.Algo)+", actual checksum Type: "+strings.ToLower(string(b.algo)))
		}
	}
	if _, err := rq.volume.PutPart(rq.ctx(), &PartInput{UploadRef: ref, Number: number, Body: b, Size: b.size, Finish: b.finish}); err != nil {
		return rq.bodyError(b, err)
	}
	h := rq.w.Header()
	h["ETag"] = []string{quote(b.result.ETag)}
	setChecksum(h, b.result.Checksum, false)
	return rq.empty(http.StatusOK)
}

func (rq *request) abortUpload() error {
	ref, err := rq.uploadRef()
	if err != nil {
		return err
	}
	if err := rq.volume.AbortUpload(rq.ctx(), ref); err != nil {
		return err
	}
	return rq.empty(http.StatusNoContent)
}

// multipartETag is the MD5 of the parts' MD5s, with their number. A part that was
// copied by reference has an entity tag that is no MD5; its text counts then.
func multipartETag(etags []string) string {
	h := md5.New()
	for _, e := range etags {
		if sum, err := hex.DecodeString(e); err == nil && len(sum) == md5.Size {
			h.Write(sum)
		} else {
			h.Write([]byte(e))
		}
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(etags))
}
