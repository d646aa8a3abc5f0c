package volume

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/fsm"
	"twofold/metadata/kv"
	"twofold/metadata/replica"
	"twofold/volume/api"
)

// replicated opens a volume whose metadata has a replica on each of the harness's drives.
func (h *harness) replicated(b *testing.B) *Volume {
	o := replica.Options{
		NewMachine: func(s kv.Store) (replica.StateMachine, error) { return fsm.New(s, fsm.Options{}) },
		Bootstrap:  true, Logger: slog.New(slog.DiscardHandler),
	}
	for _, dir := range h.dirs {
		o.Dirs = append(o.Dirs, replica.Dir{Drive: twofold.NewUUID(), Path: dir})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g, err := replica.Open(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	v, err := Open(ctx, Options{Meta: g, Blobs: h.engine, Placer: h.placer, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			b.Error(err)
		}
		if err := g.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return v
}

// cpu is the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBatch makes and writes files of 4 KiB in one directory, in batches one behind
// the other, or with a call for each step, on four drives with a replica each. What it costs in
// CPU time is of all of them.
func BenchmarkBatch(b *testing.B) {
	b.Run("calls", func(b *testing.B) {
		h := newHarness(b)
		h.v = h.replicated(b)
		h.bucket("docs")
		m := h.mount()
		dir := m.lookup("docs").Ino
		data := []api.Segment{{Data: random(4096)}}
		began := cpu(b)
		n := 0
		for b.Loop() {
			a, _, err := m.s.Create(ctx, dir, fmt.Sprint("file-", n), api.Create{Type: metadata.TypeFile, Mode: 0o640, Exclusive: true})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := m.s.Write(ctx, a.Ino, api.Write{Segments: data, Size: 4096}); err != nil {
				b.Fatal(err)
			}
			n++
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
		b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(n), "cpu-µs/file")
	})
	for _, files := range []int{1, 16, 128, 256} {
		b.Run(fmt.Sprint(files, " files"), func(b *testing.B) {
			h := newHarness(b)
			h.v = h.replicated(b)
			h.bucket("docs")
			a := h.alone("docs")
			data := random(4096)
			var left int
			began := cpu(b)
			n := 0
			for b.Loop() {
				if left < files {
					first, count, err := a.s.Inos(ctx, api.MaxInos)
					if err != nil {
						b.Fatal(err)
					}
					a.next, left = first, count
				}
				ops := make([]api.BatchOp, 0, 2*files)
				for range files {
					op, ino := a.create(a.dir, fmt.Sprint("file-", n), metadata.TypeFile)
					ops = append(ops, op, writeOp(ino, data))
					left--
					n++
				}
				if res, err := a.send(ops...); err != nil {
					b.Fatal(res, err)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(n), "cpu-µs/file")
		})
	}
}
