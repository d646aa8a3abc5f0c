package s3

import (
	"io"
	"net/http"
	"strings"
	"time"

	"twofold/internal/linger"
)

// lingerRest is up to how many bytes of a body the connection is kept for the next
// request, as net/http does.
const lingerRest = 256 << 10

// leaveBody prepares an error's answer where the request's body was not read to its
// end (a full store, no such bucket, a wrong signature). Many clients read nothing
// before they have sent everything (see internal/linger). A small rest is read before
// the answer, and the connection goes on. Before a large one, or one that does not come,
// the answer says "Connection: close", and linger.Close follows it.
func (rq *request) leaveBody() {
	rest := rq.r.ContentLength // -1: unknown
	read := rq.paced
	broken := false
	if read != nil {
		if read.ended {
			return
		}
		if rest > 0 {
			rest -= read.n
		}
		broken = read.failed
	}
	if rest == 0 && !broken {
		return
	}
	rc := http.NewResponseController(rq.w)
	if rest > 0 && rest <= lingerRest && !broken && !expectsContinue(rq.r) {
		// Not every ResponseWriter has deadlines; those of a real connection do.
		_ = rc.SetReadDeadline(time.Now().Add(min(rq.idle, linger.Silence)))
		_, err := io.CopyN(io.Discard, rq.r.Body, rest)
		_ = rc.SetReadDeadline(time.Time{})
		if err == nil {
			return
		}
	}
	// net/http is not to read a part of the body before it answers.
	if rc.EnableFullDuplex() != nil {
		return // not a connection of HTTP/1
	}
	rq.w.Header()["Connection"] = []string{"close"}
	rq.lingers = true
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
