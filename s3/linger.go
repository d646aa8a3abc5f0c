package s3

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Bounds of what is read behind an answer that came before the body's end. The
// times are nginx's lingering_timeout and lingering_time.
const (
	lingerRest    = 256 << 10        // bytes up to which the connection is kept for the next request, as net/http does
	lingerBytes   = 256 << 20        // bytes that are read and dropped at most
	lingerSilence = 5 * time.Second  // without a byte
	lingerTime    = 30 * time.Second // altogether
)

// leaveBody prepares an error's answer where the request's body was not read to its
// end (a full store, no such bucket, a wrong signature). Many clients read nothing
// before they have sent everything. If the connection were closed while they send,
// TCP would answer their bytes with a reset, which also throws away an answer that
// they have received and not read (RFC 9112 section 9.6): they would report
// "connection reset" and not the error. A small rest is read before the answer, and
// the connection goes on. Before a large one, or one that does not come, the answer
// says "Connection: close", and linger follows it.
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
		_ = rc.SetReadDeadline(time.Now().Add(min(rq.idle, lingerSilence)))
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

// linger sends what was answered, says that nothing follows, and reads what the
// client still sends until it closes or a bound is reached: the lingering close of
// nginx. A client that waits for "100 Continue" has its answer instead, is asked for
// nothing, and closes. The connection is closed on return.
func (rq *request) linger() {
	rc := http.NewResponseController(rq.w)
	if rc.Flush() != nil {
		return // net/http closes
	}
	conn, _, err := rc.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	// What the hijacked reader holds in its buffer is part of what is dropped.
	silence, end := min(rq.idle, lingerSilence), time.Now().Add(lingerTime)
	var buf [16 << 10]byte
	for n := 0; n < lingerBytes; {
		now := time.Now()
		if now.After(end) || conn.SetReadDeadline(now.Add(min(silence, end.Sub(now)))) != nil {
			return
		}
		m, err := conn.Read(buf[:])
		if err != nil {
			return
		}
		n += m
	}
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}
