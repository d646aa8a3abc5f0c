package s3

import (
	"net/http"
	"strings"

	"twofold/metadata"
	"twofold/s3/checksum"
	"twofold/s3/wire"
)

// checksumHeaders are the canonical names of the headers that carry a checksum.
func checksumHeaders() (names [5]string) {
	for i, a := range checksum.All() {
		names[i] = a.Header()
	}
	return names
}

// setChecksum writes a checksum's headers.
func setChecksum(h http.Header, c *metadata.Checksum, typ bool) {
	if c == nil {
		return
	}
	name := checksum.Algorithm(c.Algorithm).Header()
	if name == "" {
		return
	}
	h[strings.ToLower(name)] = []string{c.Value}
	if typ {
		h["x-amz-checksum-type"] = []string{c.Type}
	}
}

// writeChecksum writes a checksum's elements.
func writeChecksum(w *wire.Writer, c *metadata.Checksum, typ bool) {
	if c == nil || !checksum.Algorithm(c.Algorithm).Valid() {
		return
	}
	w.Text("Checksum"+c.Algorithm, c.Value)
	if typ {
		w.Text("ChecksumType", c.Type)
	}
}
