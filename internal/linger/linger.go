// Package linger closes an HTTP/1 connection behind an answer that came before the end
// of the request's body, so that the client gets to read the answer.
//
// If the connection were closed while the client sends, TCP would answer its bytes with
// a reset, which also throws away an answer that it has received and not read (RFC 9112
// section 9.6): it would report "connection reset" and not the error.
package linger

import (
	"net/http"
	"time"
)

// Bounds of what is read behind an answer. The times are nginx's lingering_timeout and
// lingering_time.
const (
	MaxBytes = 256 << 20       // bytes that are read and dropped at most
	Silence  = 5 * time.Second // without a byte
	maxTime  = 30 * time.Second
)

// Close sends what was answered, says that nothing follows, and reads what the client
// still sends until it closes, is silent for the given time (Silence at most), or a
// bound is reached: the lingering close of nginx. A client that waits for "100 Continue"
// has its answer instead, is asked for nothing, and closes. The answer has said
// "Connection: close", and the ResponseWriter is in full duplex
// (http.ResponseController.EnableFullDuplex). The connection is closed on return.
func Close(w http.ResponseWriter, silence time.Duration) {
	rc := http.NewResponseController(w)
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
	silence = min(silence, Silence)
	end := time.Now().Add(maxTime)
	var buf [16 << 10]byte
	for n := 0; n < MaxBytes; {
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
