package s3

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"twofold"
	"twofold/metadata"
)

// nullWriter is a ResponseWriter that keeps nothing.
type nullWriter struct {
	h      http.Header
	status int
	n      int
}

func (w *nullWriter) Header() http.Header         { return w.h }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

// nullVolume costs nothing: what is measured is this package.
type nullVolume struct {
	Volume
	info ObjectInfo
	data []byte
	page ListPage
}

func (v *nullVolume) PutObject(ctx context.Context, in *PutInput) (ObjectInfo, error) {
	var buf [4096]byte
	for {
		if _, err := in.Body.Read(buf[:]); err == io.EOF {
			break
		} else if err != nil {
			return ObjectInfo{}, err
		}
	}
	_, err := in.Finish()
	return v.info, err
}

func (v *nullVolume) GetObject(ctx context.Context, b twofold.BucketName, k twofold.Key) (ObjectInfo, ObjectReader, error) {
	return v.info, v, nil
}
func (v *nullVolume) WriteRange(ctx context.Context, w io.Writer, off, n int64) error {
	_, err := w.Write(v.data[off : off+n])
	return err
}
func (v *nullVolume) Close() error { return nil }
func (v *nullVolume) List(ctx context.Context, b twofold.BucketName, q metadata.ListQuery) (ListPage, error) {
	return v.page, nil
}

func benchServer() *Server {
	v := &nullVolume{data: randomBytes(4096)}
	v.info = ObjectInfo{Key: "key", Size: 4096, ETag: "781e5e245d69b566979b86e28d23f2c7", Modified: 1700000000e9}
	for i := range 1000 {
		v.page.Items = append(v.page.Items, ListItem{Key: fmt.Sprintf("some/prefix/object-%06d.dat", i), Size: 4096, ETag: v.info.ETag, Modified: 1700000000e9})
	}
	return New(Config{Volume: v, Credentials: testCreds{testUser: testSecret}, Logger: slog.New(slog.DiscardHandler)})
}

func benchHandler(b *testing.B, c call) {
	s := benchServer()
	req := c.request(b, "http://127.0.0.1:9000")
	req.Host, req.RequestURI = "127.0.0.1:9000", c.target
	if c.body != "" {
		req.Header.Set("Content-Length", fmt.Sprint(len(c.body)))
	}
	w := &nullWriter{h: http.Header{}}
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		req.Body = io.NopCloser(strings.NewReader(c.body))
		clear(w.h)
		s.ServeHTTP(w, req)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

func BenchmarkPut4K(b *testing.B) {
	benchHandler(b, call{method: "PUT", target: "/bucket/some/key-0001", body: strings.Repeat("x", 4096)})
}

func BenchmarkPut4KUnsigned(b *testing.B) {
	benchHandler(b, call{method: "PUT", target: "/bucket/some/key-0001", body: strings.Repeat("x", 4096), sha: "UNSIGNED-PAYLOAD"})
}

func BenchmarkGet4K(b *testing.B) {
	benchHandler(b, call{method: "GET", target: "/bucket/some/key-0001"})
}

func BenchmarkList1000(b *testing.B) {
	benchHandler(b, call{method: "GET", target: "/bucket?list-type=2&prefix=some%2F"})
}

// BenchmarkLoopbackGet4K is the whole way over a connection, client included.
func BenchmarkLoopbackGet4K(b *testing.B) {
	srv := httptest.NewServer(benchServer())
	defer srv.Close()
	c := call{method: "GET", target: "/bucket/some/key-0001"}
	req := c.request(b, srv.URL)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := srv.Client().Do(req.Clone(context.Background()))
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
