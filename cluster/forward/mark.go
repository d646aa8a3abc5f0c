package forward

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"strings"

	"twofold/cluster/rpc"
)

const (
	// markHeader is on a request that a node forwards: the mark, and the client's
	// address.
	markHeader = "X-Twofold-Forwarded"
	// elsewhereHeader is on the answer of a node that does not lead and did nothing.
	elsewhereHeader = "X-Twofold-Elsewhere"
)

// newMark is what only who has the root credentials can make. It crosses the network in
// the clear, as all of S3 does without TLS; who has seen it can have his own requests
// refused by nodes that don't lead, and pretend to have another address.
func newMark(s rpc.Secret) string {
	m := hmac.New(sha256.New, s[:])
	m.Write([]byte("twofold forward 1"))
	return hex.EncodeToString(m.Sum(nil))
}

// unmark reports whether another node has forwarded the request, and then takes the mark
// off and gives the request its client's address. Any other field of that name is left:
// who signs it may have it.
func (h *Handler) unmark(r *http.Request) bool {
	v := r.Header[markHeader]
	if len(v) != 1 {
		return false
	}
	mark, client, _ := strings.Cut(v[0], " ")
	if !hmac.Equal([]byte(mark), []byte(h.mark)) {
		return false
	}
	delete(r.Header, markHeader)
	if _, _, err := net.SplitHostPort(client); err == nil {
		r.RemoteAddr = client
	}
	return true
}

// elsewhere answers a forwarded request where this node does not lead: at once, for the
// other node waits in its place.
func (h *Handler) elsewhere(w http.ResponseWriter, r *http.Request) {
	w.Header()[elsewhereHeader] = []string{"1"}
	t := &transfer{h: h, w: w, r: r, rc: http.NewResponseController(w)}
	t.fail(noLeader)
}
