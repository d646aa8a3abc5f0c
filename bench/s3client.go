package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"
)

// S3 is a small S3 client: it shares the machine with the server it measures, so
// it does as little as it can. Requests are signed with Signature V4, payloads are
// not hashed (UNSIGNED-PAYLOAD), the same for every target.
type S3 struct {
	Endpoint  string // http://host:port
	AccessKey string
	SecretKey string
	Region    string

	http *http.Client
	mu   sync.Mutex
	day  string
	key  []byte
}

// NewS3 returns a client that keeps as many connections as there are clients.
func NewS3(endpoint, access, secret, region string) *S3 {
	return &S3{
		Endpoint: strings.TrimSuffix(endpoint, "/"), AccessKey: access, SecretKey: secret, Region: region,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}},
	}
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, s)
	return h.Sum(nil)
}

// signingKey is of the day, kept.
func (c *S3) signingKey(day string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.day != day {
		c.key = mac(mac(mac(mac([]byte("AWS4"+c.SecretKey), day), c.Region), "s3"), "aws4_request")
		c.day = day
	}
	return c.key
}

// do sends a request. path and query must need no escaping but what url.Values does.
func (c *S3) do(ctx context.Context, method, path string, query url.Values, body []byte, sink io.Writer) (int64, error) {
	q := strings.ReplaceAll(query.Encode(), "+", "%20")
	u := c.Endpoint + path
	if q != "" {
		u += "?" + q
	}
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	now := time.Now().UTC()
	stamp, day := now.Format("20060102T150405Z"), now.Format("20060102")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := method + "\n" + path + "\n" + q + "\nhost:" + req.URL.Host +
		"\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nx-amz-date:" + stamp + "\n\n" + signed + "\nUNSIGNED-PAYLOAD"
	sum := sha256.Sum256([]byte(canonical))
	scope := day + "/" + c.Region + "/s3/aws4_request"
	sig := mac(c.signingKey(day), "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+c.AccessKey+"/"+scope+",SignedHeaders="+signed+",Signature="+hex.EncodeToString(sig))
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return 0, &StatusError{resp.StatusCode, fmt.Sprintf("%s %s: %s: %s", method, path, resp.Status, b)}
	}
	return io.Copy(sink, resp.Body)
}

// StatusError is an answer that is no success.
type StatusError struct {
	Code int
	msg  string
}

func (e *StatusError) Error() string { return e.msg }

// MakeBucket makes a bucket; one that is there is a success.
func (c *S3) MakeBucket(ctx context.Context, b string) error {
	_, err := c.do(ctx, "PUT", "/"+b, nil, nil, io.Discard)
	if e, ok := err.(*StatusError); ok && e.Code == http.StatusConflict {
		return nil
	}
	return err
}

// RemoveBucket removes an empty bucket.
func (c *S3) RemoveBucket(ctx context.Context, b string) error {
	_, err := c.do(ctx, "DELETE", "/"+b, nil, nil, io.Discard)
	return err
}

// Put stores an object.
func (c *S3) Put(ctx context.Context, b, k string, body []byte) error {
	_, err := c.do(ctx, "PUT", "/"+b+"/"+k, nil, body, io.Discard)
	return err
}

// Get reads an object and checks its length.
func (c *S3) Get(ctx context.Context, b, k string, size int64) error {
	n, err := c.do(ctx, "GET", "/"+b+"/"+k, nil, nil, io.Discard)
	if err == nil && n != size {
		err = fmt.Errorf("GET %s/%s: %d bytes, want %d", b, k, n, size)
	}
	return err
}

// Delete removes an object.
func (c *S3) Delete(ctx context.Context, b, k string) error {
	_, err := c.do(ctx, "DELETE", "/"+b+"/"+k, nil, nil, io.Discard)
	return err
}

// List lists all keys under a prefix, page by page, and returns them.
func (c *S3) List(ctx context.Context, b, prefix string) ([]string, error) {
	var keys []string
	token := ""
	for {
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}, "max-keys": {"1000"}}
		if token != "" {
			q.Set("continuation-token", token)
		}
		var buf bytes.Buffer
		if _, err := c.do(ctx, "GET", "/"+b, q, nil, &buf); err != nil {
			return nil, err
		}
		var page struct {
			IsTruncated           bool
			NextContinuationToken string
			Contents              []struct{ Key string }
		}
		if err := xml.Unmarshal(buf.Bytes(), &page); err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			keys = append(keys, o.Key)
		}
		if !page.IsTruncated {
			break
		}
		token = page.NextContinuationToken
	}
	if !sort.StringsAreSorted(keys) {
		return nil, fmt.Errorf("LIST %s/%s is out of order", b, prefix)
	}
	return keys, nil
}

// CountKeys lists all keys under a prefix without parsing them: what it measures is
// the server.
func (c *S3) CountKeys(ctx context.Context, b, prefix string) (int, error) {
	n, token := 0, ""
	var buf bytes.Buffer
	for {
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}, "max-keys": {"1000"}}
		if token != "" {
			q.Set("continuation-token", token)
		}
		buf.Reset()
		if _, err := c.do(ctx, "GET", "/"+b, q, nil, &buf); err != nil {
			return 0, err
		}
		n += bytes.Count(buf.Bytes(), []byte("<Key>"))
		_, rest, ok := bytes.Cut(buf.Bytes(), []byte("<NextContinuationToken>"))
		if !ok {
			return n, nil
		}
		tok, _, _ := bytes.Cut(rest, []byte("<"))
		token = unescape(string(tok))
	}
}

func unescape(s string) string {
	return strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&#34;", `"`, "&quot;", `"`, "&#39;", "'").Replace(s)
}
