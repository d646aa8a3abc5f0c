package s3

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"twofold/s3/checksum"
	"twofold/s3/s3err"
	"twofold/s3/sigv4"
)

func (rq *request) hasTrailer() bool {
	return rq.auth.Payload == sigv4.PayloadChunksTrailer || rq.auth.Payload == sigv4.PayloadUnsignedChunks
}

// contentLength is the length of the content itself, without the chunks' framing.
func (rq *request) contentLength() (int64, error) {
	if rq.auth.Payload < sigv4.PayloadChunks {
		_, announced := rq.r.Header["Content-Length"]
		if rq.r.ContentLength < 0 || !announced && rq.r.ContentLength == 0 {
			return 0, s3err.New(s3err.MissingContentLength)
		}
		return rq.r.ContentLength, nil
	}
	v := rq.r.Header.Get("X-Amz-Decoded-Content-Length")
	if v == "" {
		return 0, s3err.New(s3err.MissingContentLength)
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, s3err.Arg("x-amz-decoded-content-length", v, "x-amz-decoded-content-length must be a non-negative integer.")
	}
	return n, nil
}

// expectChecksum reads which checksum the client announces, in a header or for the
// trailer.
func (b *body) expectChecksum(h http.Header, trailer bool) error {
	for _, a := range checksum.All() {
		v, ok := h[a.Header()]
		if !ok {
			continue
		}
		if b.algo != "" {
			return s3err.Msg(s3err.InvalidRequest, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		if len(v) != 1 || !a.ValidValue(v[0]) {
			return invalidChecksum(strings.ToLower(a.Header()))
		}
		b.algo, b.want = a, v[0]
	}
	if trailer {
		if err := b.expectTrailer(h["X-Amz-Trailer"]); err != nil {
			return err
		}
	}
	if v := strings.ToUpper(h.Get("X-Amz-Sdk-Checksum-Algorithm")); v != "" {
		if !checksum.Algorithm(v).Valid() {
			return s3err.Msg(s3err.InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
		if b.algo == "" {
			return s3err.Msg(s3err.InvalidRequest, "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		}
	}
	if b.algo != "" {
		b.sum = b.algo.New()
	}
	return nil
}

func (b *body) expectTrailer(names []string) error {
	for _, v := range names {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
				continue
			}
			all := checksum.All()
			i := slices.IndexFunc(all[:], func(a checksum.Algorithm) bool { return strings.ToLower(a.Header()) == name })
			if i < 0 {
				return s3err.Msg(s3err.InvalidRequest, "The value specified in the x-amz-trailer header is not supported")
			}
			if b.algo != "" {
				return s3err.Msg(s3err.InvalidRequest, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
			}
			b.algo, b.trailer = all[i], true
		}
	}
	return nil
}
