package forward

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strconv"

	"twofold/internal/linger"
	"twofold/s3/s3err"
	"twofold/s3/wire"
)

// refusal is an answer that this node gives itself.
type refusal struct {
	code    s3err.Code
	message string // empty: the code's own
}

// The answers that are not the leading node's.
var (
	noLeader       = refusal{s3err.SlowDown, "No node leads the store now, or it is not reached from here. Please try again."}
	unknownOutcome = refusal{s3err.InternalError, "The node that served the request was lost before it answered. The request may or may not have taken effect."}
	incomplete     = refusal{s3err.IncompleteBody, ""}
	tooSlow        = refusal{s3err.RequestTimeout, ""}
)

// fail answers with an error, as s3 does.
func (t *transfer) fail(why refusal) {
	e := s3err.Msg(why.code, why.message)
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	id := hex.EncodeToString(b[:])
	h := t.w.Header()
	h["Server"] = []string{"Twofold"}
	h["x-amz-request-id"] = []string{id}
	h["x-amz-id-2"] = []string{t.h.hostID}
	h["Content-Type"] = []string{"application/xml"}
	if e.Code == s3err.SlowDown {
		h["Retry-After"] = []string{"1"}
	}
	body := wire.AppendError(nil, e, wire.Where{Resource: t.r.URL.Path, RequestID: id, HostID: t.h.hostID})
	lingers := t.leaveBody()
	t.limitWrite()
	if t.r.Method == http.MethodHead {
		t.w.WriteHeader(e.Status())
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	t.w.WriteHeader(e.Status())
	_, _ = t.w.Write(body) // a client that is gone needs no answer
	if lingers {
		linger.Close(t.w, clientIdle)
	}
}

func newHostID() string {
	var id [48]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(id[:])
}
