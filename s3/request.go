package s3

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"twofold"
	"twofold/internal/linger"
	"twofold/s3/s3err"
	"twofold/s3/sigv4"
	"twofold/s3/wire"
)

// request is one S3 request on its way.
type request struct {
	*Server
	w      http.ResponseWriter
	r      *http.Request
	q      sigv4.Params
	auth   sigv4.Auth
	op     operation
	bucket twofold.BucketName
	key    twofold.Key
	id     string // x-amz-request-id

	paced   *pacedReader // of the request's body; nil: nothing asked for it
	lingers bool         // the rest of the body is read behind the answer

	status int   // answered; 0: not yet
	sent   int64 // bytes of the response's body
}

func (rq *request) ctx() context.Context { return rq.r.Context() }

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, l level) {
	vars := mux.Vars(r)
	rq := &request{Server: s, w: w, r: r, id: newRequestID(),
		bucket: twofold.BucketName(vars[varBucket]), key: twofold.Key(vars[varKey])}
	rq.commonHeaders(w.Header())
	start := time.Now()
	defer rq.done(start)
	if err := rq.run(l); err != nil {
		rq.fail(err)
	}
}

func (rq *request) commonHeaders(h http.Header) {
	h["Server"] = rq.static.server
	h["x-amz-request-id"] = []string{rq.id}
	h["x-amz-id-2"] = rq.hostID
}

// forgetHeaders drops what was set for a success that did not come to be, and
// keeps what belongs to an error.
func (rq *request) forgetHeaders(h http.Header) {
	for name := range h {
		if name != "Allow" && name != "Content-Range" && name != "Connection" {
			delete(h, name)
		}
	}
	rq.commonHeaders(h)
}

// newRequestID is unique, not secret.
func newRequestID() string {
	const digits = "0123456789ABCDEF"
	var b [16]byte
	for i, n := 0, rand.Uint64(); i < len(b); i, n = i+1, n>>4 {
		b[i] = digits[n&15]
	}
	return string(b[:])
}

// run authenticates and checks the request, then does what it asks for.
func (rq *request) run(l level) (err error) {
	if rq.q, err = sigv4.ParseParams(rq.r.URL.RawQuery); err != nil {
		return err
	}
	op, notFound := rq.find(l)
	rq.op = op
	if rq.r.Method != http.MethodOptions { // a browser's preflight carries no credentials
		if rq.auth, err = rq.Server.auth.Verify(rq.r, rq.q); err != nil {
			return err
		}
	}
	if rq.auth.Presigned {
		hoist(rq.r.Header, rq.q)
		op, notFound = rq.find(l) // x-amz-copy-source may have been in the query
		rq.op = op
	}
	if notFound != nil {
		return notFound
	}
	if err := rq.check(l); err != nil {
		return err
	}
	return op.run(rq)
}

// check refuses what no operation may get.
func (rq *request) check(l level) error {
	if l != serviceLevel && !validBucketName(string(rq.bucket)) {
		return s3err.New(s3err.InvalidBucketName)
	}
	if l == objectLevel {
		if err := checkKey(string(rq.key)); err != nil {
			return err
		}
	}
	if v, ok := rq.q.Lookup("versionId"); ok && v != "null" && l == objectLevel {
		return s3err.Msg(s3err.NoSuchVersion, "", s3err.Field{Name: "VersionId", Value: v})
	}
	return checkHeaders(rq.r.Header)
}

// checkKey refuses keys that S3 does not have.
func checkKey(k string) error {
	if len(k) > twofold.MaxKeyLen {
		return s3err.Msg(s3err.KeyTooLongError, "",
			s3err.Field{Name: "Size", Value: strconv.Itoa(len(k))},
			s3err.Field{Name: "MaxSizeAllowed", Value: strconv.Itoa(twofold.MaxKeyLen)})
	}
	if !utf8.ValidString(k) {
		return s3err.New(s3err.InvalidURI)
	}
	return nil
}

// fail answers with an error. Where the answer has begun it can only be cut off:
// the client sees that it is not whole.
func (rq *request) fail(err error) {
	e := toS3(err)
	if e.Status() >= 500 && e.Code != s3err.NotImplemented && !errors.Is(err, context.Canceled) {
		rq.log.Error("request failed", "op", rq.op.name, "bucket", rq.bucket, "key", rq.key, "id", rq.id, "error", err)
	}
	if rq.status != 0 {
		rq.log.Debug("response cut off", "op", rq.op.name, "id", rq.id, "error", err)
		panic(http.ErrAbortHandler)
	}
	h := rq.w.Header()
	if e.Code == s3err.NotModified {
		rq.writeHeader(http.StatusNotModified)
		return
	}
	rq.forgetHeaders(h)
	rq.leaveBody()
	if e.Code == s3err.SlowDown || e.Code == s3err.ServiceUnavailable {
		h["Retry-After"] = []string{"1"}
	}
	body := wire.AppendError(nil, e, wire.Where{Bucket: string(rq.bucket), Key: string(rq.key),
		Resource: rq.r.URL.Path, RequestID: rq.id, HostID: rq.hostID[0]})
	rq.answer(e.Status(), body)
}

// answer writes a whole XML response. HEAD gets none of the body, nor its length.
func (rq *request) answer(status int, body []byte) {
	h := rq.w.Header()
	h["Content-Type"] = rq.static.xml
	if rq.r.Method == http.MethodHead {
		rq.writeHeader(status)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	rq.writeHeader(status)
	n, _ := rq.w.Write(body)
	rq.sent += int64(n)
}

// xml begins a response's document in a pooled buffer; reply sends it.
func (rq *request) xml(root string) (*wire.Writer, *[]byte) {
	buf := rq.bufs.Get().(*[]byte)
	return wire.NewWriter(*buf, root), buf
}

func (rq *request) reply(w *wire.Writer, root string, buf *[]byte) error {
	w.Close(root)
	rq.answer(http.StatusOK, w.Bytes())
	if cap(w.Bytes()) <= 1<<20 {
		*buf = w.Bytes()
		rq.bufs.Put(buf)
	}
	return nil
}

// empty answers without a body.
func (rq *request) empty(status int) error {
	if status != http.StatusNoContent {
		rq.w.Header()["Content-Length"] = rq.static.zero
	}
	rq.writeHeader(status)
	return nil
}

func (rq *request) writeHeader(status int) {
	rq.status = status
	rq.limitWrite()
	rq.w.WriteHeader(status)
}

// limitWrite gives the client the idle timeout to take what is written next. The
// deadline stays on the connection; every answer begins by setting its own.
func (rq *request) limitWrite() {
	// Not every ResponseWriter has deadlines; those of a real connection do.
	_ = http.NewResponseController(rq.w).SetWriteDeadline(time.Now().Add(rq.idle))
}

// done logs the request, and keeps a panic from taking more than the request. Where
// the body was left unread it returns when the connection is closed.
func (rq *request) done(start time.Time) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		rq.log.Error("panic in a request", "op", rq.op.name, "id", rq.id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if rq.status == 0 {
			rq.w.Header()["Connection"] = []string{"close"}
			rq.fail(s3err.New(s3err.InternalError))
			p = nil
		} else {
			p = http.ErrAbortHandler
		}
	}
	if rq.log.Enabled(rq.ctx(), slog.LevelDebug) {
		rq.log.LogAttrs(rq.ctx(), slog.LevelDebug, "request", slog.String("op", rq.op.name),
			slog.String("bucket", string(rq.bucket)), slog.String("key", string(rq.key)),
			slog.Int("status", rq.status), slog.Int64("bytes", rq.sent), slog.Duration("took", time.Since(start)),
			slog.String("id", rq.id), slog.String("user", rq.auth.AccessKey), slog.String("remote", rq.r.RemoteAddr))
	}
	if p != nil {
		panic(p)
	}
	if rq.lingers {
		linger.Close(rq.w, rq.idle)
	}
}
