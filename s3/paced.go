package s3

import (
	"io"
	"net/http"
	"time"
)

// minRate is the bytes per second below which a body is cut off, after the idle
// timeout's grace: a client that trickles holds a connection for little.
const minRate = 1 << 10

// pacedReader bounds how long a client may take: it must send something within
// the idle timeout, and minRate on the whole. Time that the store takes between
// reads is not counted. Not safe for concurrent use.
type pacedReader struct {
	src    io.Reader
	rc     *http.ResponseController
	idle   time.Duration
	waited time.Duration // spent in src.Read
	set    time.Time     // when the deadline was last set
	n      int64         // bytes read
	ended  bool          // src said io.EOF
	failed bool          // src failed
}

var _ io.Reader = (*pacedReader)(nil)

// Read implements io.Reader.
func (p *pacedReader) Read(b []byte) (int, error) {
	start := time.Now()
	if start.Sub(p.set) > p.idle/16 {
		p.set = start
		left := p.idle + time.Duration(p.n/minRate)*time.Second - p.waited
		// Not every ResponseWriter has deadlines; those of a real connection do.
		_ = p.rc.SetReadDeadline(start.Add(min(left, p.idle)))
	}
	n, err := p.src.Read(b)
	p.n += int64(n)
	p.waited += time.Since(start)
	p.ended, p.failed = err == io.EOF, err != nil && err != io.EOF
	if p.ended {
		// The server watches the connection while the request goes on; that must
		// not time out.
		_ = p.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
