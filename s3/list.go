package s3

import (
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"twofold/metadata"
	"twofold/s3/s3err"
	"twofold/s3/sigv4"
	"twofold/s3/wire"
)

// maxKeys is the most entries of one page of any listing.
const maxKeys = 1000

func tokenSum(s string) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte("twofold-token:"+s)))
}

// limit reads max-keys and its like.
func (rq *request) limit(param string) (int, error) {
	v, ok := rq.q.Lookup(param)
	if !ok || v == "" {
		return maxKeys, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, s3err.Arg(param, v, "Provided "+param+" not an integer or within integer range")
	}
	if n < 0 {
		return 0, s3err.Arg(param, v, "Argument "+param+" must be an integer between 0 and 2147483647")
	}
	return int(min(n, maxKeys)), nil
}

// encoder returns how keys are written: as they are, or with encoding-type=url.
func (rq *request) encoder() (encoding string, f func(string) string, err error) {
	switch v := rq.q.Get("encoding-type"); v {
	case "":
		return "", func(s string) string { return s }, nil
	case "url":
		return v, sigv4.Escape, nil
	default:
		return "", nil, s3err.Arg("encoding-type", v, "Invalid Encoding Method specified in Request")
	}
}

// page asks the volume for a page; none is asked for where max is 0.
func (rq *request) page(q metadata.ListQuery) (ListPage, error) {
	if q.Max == 0 {
		_, err := rq.volume.HeadBucket(rq.ctx(), rq.bucket)
		return ListPage{}, err
	}
	return rq.volume.List(rq.ctx(), rq.bucket, q)
}

// listObjectsV1 is the older form: the client goes on from the last name it saw.
func (rq *request) listObjectsV1() error {
	limit, err := rq.limit("max-keys")
	if err != nil {
		return err
	}
	encoding, enc, err := rq.encoder()
	if err != nil {
		return err
	}
	prefix, delimiter, marker := rq.q.Get("prefix"), rq.q.Get("delimiter"), rq.q.Get("marker")
	page, err := rq.page(metadata.ListQuery{Prefix: prefix, Delimiter: delimiter, After: marker, Max: limit})
	if err != nil {
		return err
	}
	const root = "ListBucketResult"
	w, buf := rq.xml(root)
	w.Text("Name", string(rq.bucket))
	w.Text("Prefix", enc(prefix))
	w.Text("Marker", enc(marker))
	if page.More && delimiter != "" && len(page.Items) > 0 {
		w.Text("NextMarker", enc(page.Items[len(page.Items)-1].Key))
	}
	w.Int("MaxKeys", int64(limit))
	w.Opt("Delimiter", enc(delimiter))
	w.Opt("EncodingType", encoding)
	w.Bool("IsTruncated", page.More)
	writeItems(w, page.Items, enc, true)
	return rq.reply(w, root, buf)
}

// listObjectsV2 goes on by an opaque token.
func (rq *request) listObjectsV2() error {
	limit, err := rq.limit("max-keys")
	if err != nil {
		return err
	}
	encoding, enc, err := rq.encoder()
	if err != nil {
		return err
	}
	prefix, delimiter, start := rq.q.Get("prefix"), rq.q.Get("delimiter"), rq.q.Get("start-after")
	after := start
	token, continued := rq.q.Lookup("continuation-token")
	if continued {
		if after, err = parseToken(token); err != nil {
			return err
		}
	}
	page, err := rq.page(metadata.ListQuery{Prefix: prefix, Delimiter: delimiter, After: after, Max: limit})
	if err != nil {
		return err
	}
	const root = "ListBucketResult"
	w, buf := rq.xml(root)
	w.Text("Name", string(rq.bucket))
	w.Text("Prefix", enc(prefix))
	w.Opt("StartAfter", enc(start))
	if continued {
		w.Text("ContinuationToken", token)
	}
	if page.More && len(page.Items) > 0 {
		w.Text("NextContinuationToken", makeToken(page.Items[len(page.Items)-1].Key))
	}
	w.Int("KeyCount", int64(len(page.Items)))
	w.Int("MaxKeys", int64(limit))
	w.Opt("Delimiter", enc(delimiter))
	w.Opt("EncodingType", encoding)
	w.Bool("IsTruncated", page.More)
	writeItems(w, page.Items, enc, rq.q.Get("fetch-owner") == "true")
	return rq.reply(w, root, buf)
}

// writeItems writes the objects, and behind them the common prefixes.
func writeItems(w *wire.Writer, items []ListItem, enc func(string) string, owner bool) {
	prefixes := 0
	for i := range items {
		it := &items[i]
		if it.IsPrefix {
			prefixes++
			continue
		}
		w.Open("Contents")
		w.Text("Key", enc(it.Key))
		w.Time("LastModified", it.Modified.Time())
		w.ETag("ETag", it.ETag)
		if c := it.Checksum; c != nil {
			w.Text("ChecksumAlgorithm", c.Algorithm)
			w.Text("ChecksumType", c.Type)
		}
		w.Int("Size", it.Size)
		if owner {
			writeOwner(w, "Owner")
		}
		w.Text("StorageClass", className(it.Class))
		w.Close("Contents")
	}
	for i := 0; i < len(items) && prefixes > 0; i++ {
		if items[i].IsPrefix {
			prefixes--
			w.Open("CommonPrefixes")
			w.Text("Prefix", enc(items[i].Key))
			w.Close("CommonPrefixes")
		}
	}
}

func className(c string) string {
	if c == "" {
		return "STANDARD"
	}
	return c
}
