package s3

import (
	"strconv"
	"strings"

	"twofold"
	"twofold/metadata"
	"twofold/s3/checksum"
	"twofold/s3/s3err"
	"twofold/s3/wire"
)

// completeUpload makes the listed parts the object.
func (rq *request) completeUpload() error {
	ref, err := rq.uploadRef()
	if err != nil {
		return err
	}
	cond, err := rq.writeConditions()
	if err != nil {
		return err
	}
	up, err := rq.volume.GetUpload(rq.ctx(), ref)
	if err != nil {
		return err
	}
	body, err := rq.completeBody()
	if err != nil {
		return err
	}
	listed, err := wire.ParseComplete(body, twofold.MaxParts)
	if err != nil {
		return err
	}
	in := &CompleteInput{UploadRef: ref, Cond: cond, Parts: make([]metadata.PartRef, len(listed))}
	etags := make([]string, len(listed))
	for i, p := range listed {
		if p.Number < 1 || p.Number > maxPartNumber {
			return badPartNumber(strconv.Itoa(p.Number))
		}
		if i > 0 && p.Number <= listed[i-1].Number {
			return s3err.Msg(s3err.InvalidPartOrder, "", s3err.Field{Name: "UploadId", Value: formatUploadID(ref.ID)})
		}
		etags[i] = strings.ToLower(unquote(p.ETag))
		in.Parts[i] = metadata.PartRef{Number: p.Number, ETag: etags[i]}
	}
	in.Sum.ETag = multipartETag(etags)
	if in.Sum.Checksum, err = rq.completeChecksum(&up, ref, listed, etags); err != nil {
		return err
	}
	info, err := rq.volume.CompleteUpload(rq.ctx(), in)
	if err != nil {
		return err
	}
	const root = "CompleteMultipartUploadResult"
	w, buf := rq.xml(root)
	w.Text("Location", rq.location())
	w.Text("Bucket", string(rq.bucket))
	w.Text("Key", string(rq.key))
	w.ETag("ETag", info.ETag)
	writeChecksum(w, in.Sum.Checksum, true)
	return rq.reply(w, root, buf)
}

// completeBody reads the list of parts. The x-amz-checksum headers of this request
// are about the object and not about the body.
func (rq *request) completeBody() ([]byte, error) {
	h := rq.r.Header.Clone()
	for _, name := range checksumHeaders() {
		h.Del(name)
	}
	h.Del("X-Amz-Sdk-Checksum-Algorithm")
	with := *rq
	r := *rq.r
	r.Header = h
	with.r = &r
	body, _, err := with.readAll(wire.MaxBody)
	return body, err
}

func (rq *request) location() string {
	scheme := "http://"
	if rq.r.TLS != nil {
		scheme = "https://"
	}
	path := "/" + string(rq.bucket) + "/" + string(rq.key)
	if rq.virtualHost(rq.r.Host) != "" {
		path = "/" + string(rq.key)
	}
	return scheme + rq.r.Host + escapePath(path)
}

// completeChecksum computes the object's checksum from its parts', and compares
// what the client says of either.
func (rq *request) completeChecksum(up *UploadInfo, ref UploadRef, listed []wire.Part, etags []string) (*metadata.Checksum, error) {
	algo, typ := checksum.Algorithm(up.Algo), up.AlgoType
	want, wantAlgo := "", checksum.Algorithm("")
	for _, a := range checksum.All() {
		if v := rq.r.Header.Get(a.Header()); v != "" {
			want, wantAlgo = v, a
		}
	}
	if v := strings.ToUpper(rq.r.Header.Get("X-Amz-Checksum-Type")); v != "" && algo != "" && v != typ {
		return nil, s3err.Msg(s3err.InvalidRequest, "The checksum type "+v+" does not match the upload's, "+typ+".")
	}
	if wantAlgo != "" && algo != "" && wantAlgo != algo {
		return nil, s3err.Msg(s3err.InvalidRequest, "Checksum Type mismatch occurred, expected checksum Type: "+
			strings.ToLower(up.Algo)+", actual checksum Type: "+strings.ToLower(string(wantAlgo)))
	}
	if algo == "" && wantAlgo != "" {
		algo, typ = wantAlgo, wantAlgo.DefaultType()
		if wantAlgo.ValidType(checksum.FullObject) && !strings.Contains(want, "-") {
			typ = checksum.FullObject
		}
	}
	size := rq.r.Header.Get("X-Amz-Mp-Object-Size")
	if algo == "" && size == "" {
		return nil, nil
	}
	parts, err := rq.storedParts(ref, listed, etags)
	if err != nil {
		return nil, err
	}
	if err := checkObjectSize(size, parts); err != nil || algo == "" {
		return nil, err
	}
	sum, err := joinChecksums(algo, typ, listed, parts)
	if err == nil && want != "" && strings.TrimSuffix(want, "-"+strconv.Itoa(len(parts))) != strings.TrimSuffix(sum.Value, "-"+strconv.Itoa(len(parts))) {
		err = badChecksum(algo)
	}
	return sum, err
}

// storedParts fetches the listed parts, which must be as they are listed.
func (rq *request) storedParts(ref UploadRef, listed []wire.Part, etags []string) ([]PartInfo, error) {
	out := make([]PartInfo, 0, len(listed))
	after, more := 0, true
	var page []PartInfo
	for i := range listed {
		for len(page) > 0 && page[0].Number < listed[i].Number {
			page = page[1:]
		}
		for len(page) == 0 && more {
			var err error
			if page, more, err = rq.volume.ListParts(rq.ctx(), ref, after, maxKeys); err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].Number
			for len(page) > 0 && page[0].Number < listed[i].Number {
				page = page[1:]
			}
		}
		if len(page) == 0 || page[0].Number != listed[i].Number || page[0].ETag != etags[i] {
			return nil, s3err.Msg(s3err.InvalidPart, "", s3err.Field{Name: "UploadId", Value: formatUploadID(ref.ID)},
				s3err.Field{Name: "PartNumber", Value: strconv.Itoa(listed[i].Number)}, s3err.Field{Name: "ETag", Value: etags[i]})
		}
		out = append(out, page[0])
	}
	return out, nil
}

func checkObjectSize(announced string, parts []PartInfo) error {
	if announced == "" {
		return nil
	}
	var total int64
	for _, p := range parts {
		total += p.Size
	}
	if n, err := strconv.ParseInt(announced, 10, 64); err != nil || n != total {
		return s3err.Msg(s3err.InvalidRequest, "The provided 'x-amz-mp-object-size' header value "+announced+" does not match what was computed: "+itoa(total))
	}
	return nil
}

// joinChecksums makes the object's checksum of its parts'.
func joinChecksums(algo checksum.Algorithm, typ string, listed []wire.Part, stored []PartInfo) (*metadata.Checksum, error) {
	parts := make([]checksum.Part, len(stored))
	for i, p := range stored {
		if p.Checksum == nil || p.Checksum.Algorithm != string(algo) {
			return nil, s3err.Msg(s3err.InvalidRequest, "The upload has no "+strings.ToLower(string(algo))+" checksum for part "+strconv.Itoa(p.Number)+".")
		}
		if v := listed[i].Checksums[string(algo)]; v != "" && v != p.Checksum.Value {
			return nil, s3err.Msg(s3err.InvalidPart, "", s3err.Field{Name: "PartNumber", Value: strconv.Itoa(p.Number)})
		}
		parts[i] = checksum.Part{Value: p.Checksum.Value, Size: p.Size}
	}
	join := algo.Composite
	if typ == checksum.FullObject {
		join = algo.Full
	}
	value, ok := join(parts)
	if !ok {
		return nil, s3err.Msg(s3err.InvalidRequest, "The parts' checksums cannot be joined.")
	}
	return &metadata.Checksum{Algorithm: string(algo), Value: value, Type: typ}, nil
}
