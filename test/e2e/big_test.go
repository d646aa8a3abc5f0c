package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// Campaigns: not run by default, as they take minutes. They log what they measure.
var (
	bigEntries = flag.Int("big.entries", 0, "entries of TestBigDirectory; 0: not run")
	bigWrites  = flag.Int("big.writes", 0, "writes of TestManyOverwrites; 0: not run")
)

// TestBigDirectory fills a directory by S3 and measures what the mount takes for it. A
// listing shows each entry that stayed once, whatever comes and goes meanwhile.
func TestBigDirectory(t *testing.T) {
	if *bigEntries == 0 {
		t.Skip("a campaign: -big.entries 1000000")
	}
	s := newStore(t)
	s.bucket("big")
	name := func(i int) string { return fmt.Sprintf("n%07d", i) }
	before := rss(t, s.MountPid())
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < *bigEntries; i = int(next.Add(1)) - 1 {
				_, err := s.c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("big"), Key: aws.String("dir/" + name(i)), Body: bytes.NewReader(nil)})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	took := time.Since(began)
	t.Logf("%d PUTs of nothing, 32 clients: %.0f/s", *bigEntries, float64(*bigEntries)/took.Seconds())

	began = time.Now()
	out := s.Run("sh", "-c", `ls -f "$0" | wc -l`, s.Path("big", "dir"))
	if strings.TrimSpace(out) != fmt.Sprint(*bigEntries+2) {
		t.Fatalf("ls -f shows %s entries", out)
	}
	t.Logf("ls -f: %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	const stats = 2000
	for range stats {
		_, err := os.Lstat(s.Path("big", "dir", name(rand.IntN(*bigEntries))))
		noErr(t, err)
	}
	t.Logf("stat of a random name: %v", (time.Since(began) / stats).Round(time.Microsecond))

	stop := make(chan struct{})
	var changes int
	wg.Go(func() {
		for ; ; changes++ {
			select {
			case <-stop:
				return
			default:
			}
			p := s.Path("big", "dir", name(rand.IntN(*bigEntries))+"x")
			os.WriteFile(p, nil, 0o644)
			if rand.IntN(3) > 0 {
				os.Remove(p)
			}
		}
	})
	began = time.Now()
	names, err := list(s.Path("big", "dir"))
	took = time.Since(began)
	close(stop)
	wg.Wait()
	noErr(t, err)
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if seen[n] {
			t.Errorf("%s is listed twice", n)
		}
		seen[n] = true
	}
	for i := range *bigEntries {
		if !seen[name(i)] {
			t.Errorf("%s is missing", name(i))
		}
	}
	t.Logf("a listing with %d files made meanwhile: %d entries, %v", changes, len(names), took.Round(time.Millisecond))
	t.Logf("resident memory of the mount: %d MiB before, %d after", before, rss(t, s.MountPid()))
}

// list is readdir(3) to its end, in small pieces.
func list(dir string) (names []string, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for {
		some, err := f.Readdirnames(100)
		names = append(names, some...)
		if len(some) == 0 {
			if err.Error() == "EOF" {
				err = nil
			}
			return names, err
		}
	}
}

// rss is a process's resident memory, in MiB.
func rss(t *testing.T, pid int) (mib int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	noErr(t, err)
	_, at, _ := strings.Cut(string(b), "VmRSS:")
	fmt.Sscan(at, &mib)
	return mib >> 10
}

// TestManyOverwrites writes a file over in small pieces at random, and measures reading
// it and the space that it takes, before, meanwhile and after compaction.
func TestManyOverwrites(t *testing.T) {
	if *bigWrites == 0 {
		t.Skip("a campaign: -big.writes 1000000")
	}
	const size, piece, syncEvery = 64 << 20, 100, 20_000
	readEvery := max(syncEvery, *bigWrites/5)
	s := newStore(t)
	s.bucket("big")
	want := content(1, size)
	noErr(t, os.WriteFile(s.Path("big", "f"), want, 0o644))
	f, err := os.OpenFile(s.Path("big", "f"), os.O_RDWR, 0)
	noErr(t, err)
	defer f.Close()
	read := func(when string) {
		t.Helper()
		began := time.Now()
		s.wantObject("big", "f", want)
		get := time.Since(began)
		began = time.Now()
		s.wantFile(want, "big", "f")
		t.Logf("%s: GET %v, read(2) %v, shards %.0f MiB, all on the drives %.0f MiB", when, get.Round(time.Millisecond), time.Since(began).Round(time.Millisecond),
			float64(used(t, s.Drives, "blobs"))/(1<<20), float64(used(t, s.Drives, ""))/(1<<20))
	}
	noErr(t, f.Sync())
	read("before")
	began := time.Now()
	var reading time.Duration
	for i := range *bigWrites {
		off := rand.IntN(size - piece)
		for j := range piece {
			want[off+j] = byte(i + j)
		}
		_, err := f.WriteAt(want[off:off+piece], int64(off))
		noErr(t, err)
		if i%syncEvery == syncEvery-1 {
			noErr(t, f.Sync())
		}
		if i%readEvery == readEvery-1 {
			now := time.Now()
			read(fmt.Sprintf("after %d writes", i+1))
			reading += time.Since(now)
		}
	}
	noErr(t, f.Sync())
	took := time.Since(began) - reading
	t.Logf("%d writes of %d bytes, fsync every %d: %.0f/s", *bigWrites, piece, syncEvery, float64(*bigWrites)/took.Seconds())
	read("after the last fsync")
	// At rest is when nothing is rewritten any more.
	began = time.Now()
	for before := int64(-1); ; time.Sleep(5 * time.Second) {
		now := used(t, s.Drives, "blobs")
		if now == before && now <= 2*2*size {
			break
		}
		if before = now; time.Since(began) > 3*time.Minute {
			t.Errorf("the drives still have %d bytes for %d: more than twice their share, or compaction goes on", now, size)
			break
		}
	}
	t.Logf("at rest %v later", time.Since(began).Round(time.Second))
	read("at rest")
}

// used is what a directory takes on all drives. With EC:2 of 4 a byte of a blob takes two.
func used(t *testing.T, drives []string, dir string) (n int64) {
	for _, d := range drives {
		err := filepath.WalkDir(filepath.Join(d, dir), func(p string, e fs.DirEntry, err error) error {
			var st unix.Stat_t
			if err == nil && !e.IsDir() && unix.Lstat(p, &st) == nil {
				n += st.Blocks * 512
			}
			return nil // it may have gone meanwhile
		})
		noErr(t, err)
	}
	return n
}
