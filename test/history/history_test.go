// Package history records what clients of both views do at once (two mounts, S3) and
// checks with porcupine that it is one linearizable history: every write(2) that
// returned is seen by every GET and every read(2) that starts later, wherever.
package history

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

var (
	duration = flag.Duration("duration", 8*time.Second, "how long clients run")
	seed     = flag.Uint64("seed", 0, "seed of the operations; 0: from the clock")
)

// op is one operation on a register: a file whose content is one 8-byte value,
// repeated. The number of repetitions makes some of them inline and some blobs.
type op struct {
	write bool
	file  int
	value uint64
}

// model is a register for each file.
var model = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := map[int][]porcupine.Operation{}
		for _, o := range h {
			f := o.Input.(op).file
			by[f] = append(by[f], o)
		}
		var out [][]porcupine.Operation
		for _, p := range by {
			out = append(out, p)
		}
		return out
	},
	Init: func() any { return uint64(0) },
	Step: func(state, in, out any) (bool, any) {
		if o := in.(op); o.write {
			return true, o.value
		}
		return out.(uint64) == state.(uint64), state
	},
	DescribeOperation: func(in, out any) string {
		if o := in.(op); o.write {
			return fmt.Sprintf("write(%d, %d)", o.file, o.value)
		} else {
			return fmt.Sprintf("read(%d) -> %d", o.file, out)
		}
	},
}

// recorder collects operations with their times.
type recorder struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (r *recorder) do(client int, in op, fn func() (uint64, error)) error {
	call := time.Since(r.start).Nanoseconds()
	out, err := fn()
	ret := time.Since(r.start).Nanoseconds()
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
	r.mu.Unlock()
	return nil
}

// sizes of the files: inline, and a blob. Each read(2) and write(2) of them is one
// request of the kernel, and so one operation, where the mount has direct I/O (Linux
// 6.6 and newer). An older kernel cuts what goes through its page cache into several,
// and shows a write(2) to the same mount before it sends it (docs/design.md, limits).
var sizes = []int{64, 64, 4096, 256 << 10}

func content(v uint64, n int) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return bytes.Repeat(b[:], n/8)
}

// value reads a content back; torn ones are errors.
func value(p []byte, n int) (uint64, error) {
	if len(p) != n {
		return 0, fmt.Errorf("%d bytes, want %d", len(p), n)
	}
	v := binary.BigEndian.Uint64(p)
	if !bytes.Equal(p, content(v, n)) {
		return 0, fmt.Errorf("torn: it begins with %d", v)
	}
	return v, nil
}

// secondMount mounts the server's buckets once more, by hand.
func secondMount(t *testing.T, s *harness.Server) string {
	dir := filepath.Join(s.Dir, "mnt2")
	cmd := exec.Command(harness.Binary(t), "mount", "--endpoint", "http://"+s.Address, dir)
	cmd.Env = append(os.Environ(), "S3_ROOT_USER="+harness.User, "S3_ROOT_PASSWORD="+harness.Password)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			syscall.Unmount(dir, 2)
		}
	})
	for range 500 {
		if harness.Mounted(dir) {
			return dir
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the second mount did not come up")
	return ""
}

// directMounts reports whether the kernel is one that lets mounts pass its page cache
// by: Linux 6.6.
func directMounts() bool {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return false
	}
	var release []byte
	for _, c := range u.Release {
		release = append(release, byte(c))
	}
	var major, minor int
	fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 6
}

func TestBothViewsAreOneHistory(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	s := harness.Start(t, 4, harness.WithMount())
	mounts := []string{s.Mount, secondMount(t, s)}
	s3c := s.S3()
	ctx := context.Background()
	if _, err := s3c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("docs")}); err != nil {
		t.Fatal(err)
	}
	for f, n := range sizes {
		if err := os.WriteFile(filepath.Join(mounts[0], "docs", fmt.Sprint(f)), content(0, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	rec := &recorder{start: time.Now()}
	stop := time.Now().Add(*duration)
	var next atomic.Uint64
	var wg sync.WaitGroup
	var counts [4]atomic.Int64
	client := func(id int, do func(r *rand.Rand, f, n int) error) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(id)))
			for time.Now().Before(stop) && !t.Failed() {
				f := r.IntN(len(sizes))
				if err := do(r, f, sizes[f]); err != nil {
					t.Errorf("client %d, file %d: %v", id, f, err)
					return
				}
				time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
		})
	}
	flags := 0
	if !directMounts() {
		flags = syscall.O_DIRECT
	}
	id := 0
	for _, m := range mounts {
		for range 2 {
			var files []*os.File
			for f := range sizes {
				fd, err := os.OpenFile(filepath.Join(m, "docs", fmt.Sprint(f)), os.O_RDWR|flags, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer fd.Close()
				files = append(files, fd)
			}
			me := id
			client(me, func(r *rand.Rand, f, n int) error {
				if r.IntN(2) == 0 {
					counts[0].Add(1)
					v := next.Add(1)
					return rec.do(me, op{write: true, file: f, value: v}, func() (uint64, error) {
						_, err := files[f].WriteAt(content(v, n), 0)
						return v, err
					})
				}
				counts[1].Add(1)
				return rec.do(me, op{file: f}, func() (uint64, error) {
					p := make([]byte, n)
					if _, err := io.ReadFull(io.NewSectionReader(files[f], 0, int64(n)), p); err != nil {
						return 0, err
					}
					return value(p, n)
				})
			})
			id++
		}
	}
	for range 2 {
		me := id
		client(me, func(_ *rand.Rand, f, n int) error {
			counts[2].Add(1)
			return rec.do(me, op{file: f}, func() (uint64, error) {
				out, err := s3c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("docs"), Key: aws.String(fmt.Sprint(f))})
				if err != nil {
					return 0, err
				}
				defer out.Body.Close()
				p, err := io.ReadAll(out.Body)
				if err != nil {
					return 0, err
				}
				return value(p, n)
			})
		})
		id++
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d write(2), %d read(2), %d GET", counts[0].Load(), counts[1].Load(), counts[2].Load())
	if counts[0].Load() < 50 || counts[2].Load() < 20 {
		t.Fatal("too few operations: nothing was tested")
	}
	res, info := porcupine.CheckOperationsVerbose(model, rec.ops, 2*time.Minute)
	if res != porcupine.Ok {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("twofold-history-%d.html", *seed))
		if err := porcupine.VisualizePath(model, info, name); err != nil {
			t.Log(err)
		}
		t.Fatalf("not linearizable (%v): see %s", res, name)
	}
}
