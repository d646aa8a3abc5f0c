package replica

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
)

// TestMeasure is not a test: it fills a group with MEASURE_OBJECTS objects of
// MEASURE_INLINE bytes in MEASURE_DIR and prints rates, memory, and how long a start
// takes after a clean stop and after none.
func TestMeasure(t *testing.T) {
	count, _ := strconv.Atoi(os.Getenv("MEASURE_OBJECTS"))
	if count == 0 {
		t.Skip("MEASURE_OBJECTS is not set")
	}
	inline, _ := strconv.Atoi(os.Getenv("MEASURE_INLINE"))
	replicas, _ := strconv.Atoi(os.Getenv("MEASURE_REPLICAS"))
	if replicas == 0 {
		replicas = 4
	}
	dirs := testDirs(t, replicas)
	g := openTest(t, Options{Dirs: dirs, Bootstrap: true, NewMachine: newReal})
	if p := os.Getenv("MEASURE_PROFILE"); p != "" {
		f, _ := os.Create(p)
		pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	data := bytes.Repeat([]byte("data"), inline/4)
	const clients = 32
	var next, slowest atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		c := newClient2(t, g)
		wg.Go(func() {
			for seq := uint64(2); ; seq++ {
				i := int(next.Add(1))
				if i > count {
					return
				}
				at := time.Now()
				if err := c.putBlob(seq, fmt.Sprintf("dir%03d/object-%08d", i%997, i), data); err != nil {
					t.Error(err)
					return
				}
				if d := int64(time.Since(at)); d > slowest.Load() {
					slowest.Store(d)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	t.Logf("%d objects, %d bytes inline, %d replicas: %.0f/s, slowest %s", count, inline, replicas,
		float64(count)/took.Seconds(), time.Duration(slowest.Load()).Round(time.Millisecond))
	pprof.StopCPUProfile()
	for _, n := range g.running() {
		t.Logf("%s: %d commands computed, the changes of %d taken", n.dir.Path, n.host.computed.Load(), n.host.taken.Load())
	}
	memory(t, "after the load")
	time.Sleep(3 * time.Second)
	runtime.GC()
	memory(t, "a moment later")
	if p := os.Getenv("MEASURE_PROFILE"); p != "" {
		f, _ := os.Create(p + "-heap")
		pprof.WriteHeapProfile(f)
		f.Close()
	}
	views := 0
	start = time.Now()
	for time.Since(start) < time.Second {
		err := g.View(context.Background(), func(v metadata.View) error {
			_, err := v.Resolve(1, twofold.Key(fmt.Sprintf("dir%03d/object-%08d", (views*7919%count+1)%997, views*7919%count+1)))
			return err
		})
		if err != nil && views == 0 {
			t.Log(err)
		}
		views++
	}
	t.Logf("%d random reads in a second", views)
	memory(t, "after reads")
	crash := t.TempDir() // what a kill would leave
	if out, err := exec.Command("cp", "-a", dirs[0].Path, crash).CombinedOutput(); err != nil {
		t.Logf("%s", out)
	}
	out, _ := exec.Command("du", "-sh", dirs[0].Path).CombinedOutput()
	t.Logf("%s", out)
	out, _ = exec.Command("sh", "-c", "du -sh "+dirs[0].Path+"/meta/g0/*").CombinedOutput()
	t.Logf("%s", out)
	start = time.Now()
	if err := g.Close(context.Background()); err != nil {
		t.Error(err)
	}
	t.Logf("close: %s", time.Since(start).Round(time.Millisecond))
	start = time.Now()
	g = openTest(t, Options{Dirs: dirs, NewMachine: newReal})
	g.View(context.Background(), func(metadata.View) error { return nil })
	t.Logf("start after a clean stop: %s", time.Since(start).Round(time.Millisecond))
	time.Sleep(15 * time.Second)
	memory(t, "idle after a restart")
	if err := g.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for _, d := range dirs {
		os.RemoveAll(kvDir(d.g0()))
	}
	if p := os.Getenv("MEASURE_PROFILE"); p != "" {
		f, _ := os.Create(p + "-start")
		pprof.StartCPUProfile(f)
	}
	start = time.Now()
	g = openTest(t, Options{Dirs: dirs, NewMachine: newReal})
	g.View(context.Background(), func(metadata.View) error { return nil })
	pprof.StopCPUProfile()
	t.Logf("start from snapshot and log: %s", time.Since(start).Round(time.Millisecond))
	memory(t, "after that")
}

func newClient2(t testing.TB, g *Group) *client {
	c := &client{t: t, g: g}
	c.session = twofold.SessionID(c.apply(0, metadata.OpBeginSession, &metadata.BeginSession{Kind: 1, Node: "test", Nonce: twofold.NewUUID()}).ID)
	res, err := g.Apply(context.Background(), &metadata.Command{Op: metadata.OpCreateBucket, Session: c.session, Seq: 1, Now: twofold.Now(), Body: &metadata.CreateBucket{Name: "bucket"}})
	if err == nil {
		c.bucket = res.Bucket.ID
	}
	c.bucket = 1
	return c
}

func (c *client) putBlob(seq uint64, key string, data []byte) error {
	e := metadata.Extent{Len: int64(len(data)), Data: data}
	if len(data) == 0 {
		e = metadata.Extent{Len: 65536, Blob: &twofold.Blob{ID: twofold.MakeBlobID(c.session, seq), Data: 2, Parity: 2, Size: 65536}}
	}
	_, err := c.g.Apply(context.Background(), &metadata.Command{
		Op: metadata.OpPutObject, Session: c.session, Seq: seq, Acked: seq, Now: twofold.Now(), Writer: c.session,
		Body: &metadata.PutObject{
			Bucket: c.bucket, Key: twofold.Key(key),
			Content: metadata.Content{Size: e.Len, ETag: "0123456789abcdef0123456789abcdef", Headers: map[string]string{"Content-Type": "application/octet-stream"}},
			Extents: []metadata.Extent{e},
		},
	})
	return err
}

func memory(t *testing.T, when string) {
	raw, _ := os.ReadFile("/proc/self/status")
	var parts []string
	for _, m := range regexp.MustCompile(`(VmRSS|RssAnon|RssFile):\s+(\d+) kB`).FindAllStringSubmatch(string(raw), -1) {
		kb, _ := strconv.Atoi(m[2])
		parts = append(parts, fmt.Sprintf("%s %d MiB", m[1], kb>>10))
	}
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	t.Logf("%s: %s, heap %d MiB, %d goroutines", when, strings.Join(parts, ", "), ms.HeapAlloc>>20, runtime.NumGoroutine())
}
