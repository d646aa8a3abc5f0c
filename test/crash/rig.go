package crash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

const bucket = "crash"

// opTimeout is how long any operation may take, whatever is being killed. Longer is
// a failure by itself.
const opTimeout = 120 * time.Second

// rig is the program under test, with what the workers have to know of its deaths.
type rig struct {
	t   testing.TB
	srv *harness.Server
	run *launcher
	s3  *s3.Client

	mounts  atomic.Int64 // how many mounts were killed, counted before the kill
	servers atomic.Int64 // how many servers were killed, counted before the kill
	tags    atomic.Uint64
	orphans atomic.Bool // the last kill was of the mount alone: its calls may be in the server yet

	violations atomic.Int64
	lossy      bool // the test breaks the promise itself, to see that it shows

	mu   sync.Mutex
	up   chan struct{} // closed while everything serves
	fail chan struct{} // closed after the first violation

	keepsMount atomic.Bool // the mount will not be killed

	once sync.Once
}

func newRig(t testing.TB, srv *harness.Server) *rig {
	r := &rig{t: t, srv: srv, run: newLauncher(t, srv), up: make(chan struct{}), fail: make(chan struct{})}
	client := &http.Client{Timeout: opTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(client.CloseIdleConnections)
	r.s3 = srv.S3(func(o *s3.Options) { o.Retryer, o.HTTPClient = aws.NopRetryer{}, client })
	return r
}

// begin starts the server, makes the bucket and says that everything is up.
func (r *rig) begin() {
	r.t.Helper()
	r.run.start()
	r.await()
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	if _, err := r.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		r.t.Fatal(err)
	}
	r.setUp(true)
}

// violation reports that the promise is broken, and ends the load.
func (r *rig) violation(format string, args ...any) {
	r.violations.Add(1)
	if !r.lossy {
		r.t.Errorf("VIOLATION "+format, args...)
	}
	r.once.Do(func() { close(r.fail) })
}

func (r *rig) failed() bool {
	select {
	case <-r.fail:
		return true
	default:
		return r.t.Failed()
	}
}

func (r *rig) setUp(up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.up:
		if !up {
			r.up = make(chan struct{})
		}
	default:
		if up {
			close(r.up)
		}
	}
}

// waitUp waits until everything serves, or stop is closed.
func (r *rig) waitUp(stop <-chan struct{}) {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	select {
	case <-up:
	case <-stop:
	case <-r.fail:
	}
}

// What to kill.
type victim string

const (
	server victim = "server"
	mount  victim = "mount"
	both   victim = "both"
)

// kill kills -9 and brings back what was killed.
func (r *rig) kill(v victim, down time.Duration) {
	r.t.Helper()
	r.setUp(false)
	if v != server {
		r.mounts.Add(1)
	}
	if v != mount {
		r.servers.Add(1)
	}
	r.orphans.Store(v == mount)
	switch v {
	case server:
		r.run.kill()
	case mount:
		r.srv.KillMount()
	case both:
		// The mount first, so that the supervisor may be about to bring it back.
		r.srv.KillMount()
		r.run.kill()
		r.srv.KillMount()
	}
	time.Sleep(down)
	if v != mount {
		r.run.start()
	}
	r.await()
	r.setUp(true)
}

// await waits until both views answer.
func (r *rig) await() {
	r.t.Helper()
	deadline := time.Now().Add(opTimeout)
	for !r.mountAnswers() || !r.serverAnswers() {
		if time.Now().After(deadline) {
			r.t.Fatalf("not both views are back after %v", opTimeout)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) serverAnswers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := r.s3.ListBuckets(ctx, nil)
	return err == nil
}

// mountAnswers asks the mount, which may hang until its server is back.
func (r *rig) mountAnswers() bool {
	if r.srv.Mount == "" {
		return true
	}
	if !harness.Mounted(r.srv.Mount) {
		return false
	}
	got := make(chan error, 1)
	go func() {
		_, err := os.ReadDir(r.srv.Mount)
		got <- err
	}()
	select {
	case err := <-got:
		return err == nil && harness.Mounted(r.srv.Mount)
	case <-time.After(opTimeout):
		return false
	}
}

// path is where a key is in the mount.
func (r *rig) path(key string) string { return filepath.Join(r.srv.Mount, bucket, key) }

// errnoOf is the errno of a system call's error, 0 if it has none.
func errnoOf(err error) syscall.Errno {
	var n syscall.Errno
	errors.As(err, &n)
	return n
}

// statusOf is the HTTP status of an S3 error, 0 if there was no answer.
func statusOf(err error) int {
	var e interface{ HTTPStatusCode() int }
	if errors.As(err, &e) {
		return e.HTTPStatusCode()
	}
	return 0
}

// unknown reports whether an error leaves open what happened: no answer, an answer
// of the 5xx class, or a mount that died or could not write.
func unknown(err error) bool {
	switch errnoOf(err) {
	case syscall.ENOTCONN, syscall.ECONNABORTED, syscall.EIO, syscall.EINTR, syscall.ENOSPC, syscall.ESTALE, syscall.EROFS,
		syscall.ENODEV, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE:
		return true
	}
	if s := statusOf(err); s != 0 {
		return s >= 500
	}
	return errnoOf(err) == 0
}

// describe is an error for a person.
func describe(err error) string {
	if err == nil {
		return "ok"
	}
	return fmt.Sprintf("%v", err)
}
