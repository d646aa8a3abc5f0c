package e2e

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"twofold/test/harness"
)

// A signer of its own, from AWS's documents: a client that lies where it is told to.

// rawRequest is one request, byte by byte.
type rawRequest struct {
	method, path, query string // path and query as sent
	payload             string // x-amz-content-sha256; empty: UNSIGNED-PAYLOAD
	headers             map[string]string
	body                string
	length              int       // Content-Length where it is not the body's; 0: it is
	at                  time.Time // zero: now
	secret              string    // empty: the right one
	cut                 bool      // close the sending side behind the body
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

func sum(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }

// signature is of the request's head; what it returns also begins a chain of chunks.
type signature struct {
	key         []byte
	date, scope string
	sig         string
}

func (r *rawRequest) sign(host string) (head string, sig signature) {
	if r.at.IsZero() {
		r.at = time.Now()
	}
	if r.payload == "" {
		r.payload = "UNSIGNED-PAYLOAD"
	}
	secret := r.secret
	if secret == "" {
		secret = harness.Password
	}
	at := r.at.UTC()
	sig.date, sig.scope = at.Format("20060102T150405Z"), at.Format("20060102")+"/us-east-1/s3/aws4_request"
	all := map[string]string{"host": host, "x-amz-date": sig.date, "x-amz-content-sha256": r.payload}
	for k, v := range r.headers {
		all[strings.ToLower(k)] = v
	}
	var names []string
	for k := range all {
		names = append(names, k)
	}
	sort.Strings(names)
	canonical := r.method + "\n" + r.path + "\n" + canonicalQuery(r.query) + "\n"
	for _, k := range names {
		canonical += k + ":" + all[k] + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + r.payload
	sig.key = []byte("AWS4" + secret)
	for _, p := range strings.Split(sig.scope, "/") {
		sig.key = mac(sig.key, p)
	}
	sig.sig = hex.EncodeToString(mac(sig.key, "AWS4-HMAC-SHA256\n"+sig.date+"\n"+sig.scope+"\n"+sum(canonical)))
	target := r.path
	if r.query != "" {
		target += "?" + r.query
	}
	head = r.method + " " + target + " HTTP/1.1\r\n"
	for _, k := range names {
		head += k + ": " + all[k] + "\r\n"
	}
	head += "Authorization: AWS4-HMAC-SHA256 Credential=" + harness.User + "/" + sig.scope + ", SignedHeaders=" + strings.Join(names, ";") + ", Signature=" + sig.sig + "\r\n"
	return head, sig
}

func canonicalQuery(q string) string {
	if q == "" {
		return ""
	}
	var out []string
	for _, p := range strings.Split(q, "&") {
		if !strings.Contains(p, "=") {
			p += "="
		}
		out = append(out, p)
	}
	sort.Strings(out)
	return strings.Join(out, "&")
}

// chunk is one chunk of a signed aws-chunked body; prev is the signature before it.
func (g *signature) chunk(data string) string {
	g.sig = hex.EncodeToString(mac(g.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+g.date+"\n"+g.scope+"\n"+g.sig+"\n"+sum("")+"\n"+sum(data)))
	return fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n", len(data), g.sig, data)
}

// rawConn is a connection that is used until the server closes it.
type rawConn struct {
	net.Conn
	br *bufio.Reader
}

func dialRaw(t *testing.T, addr string) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	noErr(t, err)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() { c.Close() })
	return &rawConn{c, bufio.NewReader(c)}
}

// do sends the request and reads the answer.
func (c *rawConn) do(t *testing.T, addr string, r rawRequest) (*http.Response, string) {
	t.Helper()
	head, _ := r.sign(addr)
	n := len(r.body)
	if r.length != 0 {
		n = r.length
	}
	if n > 0 || r.method == "PUT" || r.method == "POST" {
		head += fmt.Sprintf("Content-Length: %d\r\n", n)
	}
	return c.send(t, r.method, head+"\r\n"+r.body, r.cut)
}

func (c *rawConn) send(t *testing.T, method, text string, cut bool) (*http.Response, string) {
	t.Helper()
	go func() { // the server may answer and close before it has read everything
		io.WriteString(c, text)
		if cut {
			c.Conn.(*net.TCPConn).CloseWrite()
		}
	}()
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	noErr(t, err)
	return resp, string(b)
}

func esc(key string) string { return strings.ReplaceAll(url.QueryEscape(key), "+", "%20") }
