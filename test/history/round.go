package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

const (
	maxCells = 6 // of a write
	maxRead  = 8 // of a read: at most 1 MiB, so that it is one request
	linked   = "l"
)

// round is one history in the making: a fresh bucket, clients, perhaps a fault.
type round struct {
	rig    *rig
	rec    *recorder
	bucket string

	cell    int // bytes
	files   []string
	dirs    []string
	maps    bool // with mappings
	fault   *fault
	faulty  bool // errors are to be expected
	rootIno uint64
	// openFlags is O_DIRECT where the kernel needs it to be told that a call is one
	// request (before Linux 6.6).
	openFlags   int
	faultClient int

	mu    sync.Mutex
	notes []string
}

func (r *round) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, s)
}

// load is how much is done in a round.
type load struct {
	perMount, s3 int // clients
	steps        int // of each client, at least
	faults       bool
	only         string // a fault's name
	always       bool   // one in every round
	maps         bool
}

// cellSizes make contents inline, one blob, or several pages.
var cellSizes = []int{64, 64, 4096, 4096, 20 << 10, 64 << 10}

// newRound chooses what a round is like.
func newRound(r *rig, rng *rand.Rand, number int, l load) *round {
	rd := &round{
		rig: r, rec: &recorder{start: time.Now()}, bucket: fmt.Sprintf("round-%d", number),
		cell: cellSizes[rng.IntN(len(cellSizes))],
	}
	pool := []string{"a", "b", "c", "d/a", "d/b", "e/a", linked, "d/" + linked}
	rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
	rd.files = pool[:3+rng.IntN(4)]
	for _, f := range rd.files {
		if strings.Contains(f, "/") {
			rd.dirs = []string{"d", "e"}
		}
	}
	if l.faults && (l.always || rng.IntN(3) > 0) {
		rd.fault = pickFault(rng, r, l.only)
	}
	// A mapping of a mount that dies shows what nobody can say. And where a thread waits for
	// a page, the garbage collector waits for the thread, and this process stands still:
	// it must not be what starts the server that the page comes from.
	if l.maps && rd.cell%4096 == 0 && rng.IntN(2) == 0 && (rd.fault == nil || rd.fault.maps) {
		rd.maps = true
		rd.files = append(rd.files, mapped)
	}
	rd.faulty = rd.fault != nil
	if !directMounts() {
		rd.openFlags = unix.O_DIRECT
	}
	return rd
}

// directMounts reports whether the kernel lets mounts pass its page cache by: Linux 6.6.
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

func (r *round) someKey(rng *rand.Rand) string { return r.files[rng.IntN(len(r.files))] }

// run does the round and returns its history. Clients stop when they have done their
// steps and the fault is over; they do at most twice as many.
func (r *round) run(rng *rand.Rand, l load) (*History, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for { // where the round before had a fault, the store may still be coming round
		_, err := r.rig.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &r.bucket})
		if err == nil || strings.Contains(err.Error(), "BucketAlreadyOwnedByYou") {
			break
		}
		if ctx.Err() != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.rig.views = 0
	for _, m := range r.rig.mounts {
		r.rootIno = m.open(r.bucket)
	}
	defer func() {
		for _, m := range r.rig.mounts {
			m.close()
		}
	}()
	var steps []func() bool
	for m := range r.rig.mounts {
		for range l.perMount {
			c := &mountClient{round: r, id: len(steps), mount: m, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
			b, err := unix.Mmap(-1, 0, maxRead*r.cell, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return nil, err
			}
			defer unix.Munmap(b)
			c.buf = b
			steps = append(steps, c.step)
		}
	}
	for i := range l.s3 {
		at := r.rig.nodes[i%len(r.rig.nodes)]
		c := &s3Client{round: r, id: len(steps), rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), s3: at.s3}
		steps = append(steps, c.step)
	}
	r.faultClient = len(steps)
	faultRNG := rand.New(rand.NewPCG(rng.Uint64(), 1))
	if r.maps {
		(&s3Client{round: r, id: len(steps), rng: faultRNG, s3: r.rig.s3}).put(&Op{Kind: Put, Key: mapped})
	}
	var over atomic.Bool
	var wg sync.WaitGroup
	for _, step := range steps {
		pauses := rand.New(rand.NewPCG(rng.Uint64(), 2))
		wg.Go(func() {
			for n := 0; n < l.steps || !over.Load(); {
				wait := 2 * time.Millisecond
				if n >= 2*l.steps || !step() { // until the fault is over
					wait = 50 * time.Millisecond
				} else {
					n++
				}
				time.Sleep(time.Duration(pauses.Int64N(int64(wait))))
			}
		})
	}
	if r.fault != nil {
		r.fault.run(r, faultRNG)
	}
	over.Store(true)
	if err := r.await(&wg); err != nil {
		return nil, err
	}
	h := &History{Cell: r.cell, Root: r.rootIno, Events: r.rec.events, Losses: r.fault != nil && r.fault.losses, Notes: strings.Join(r.notes, "; ")}
	if r.fault != nil {
		h.Notes = r.fault.name + " " + h.Notes
	}
	return h, nil
}

// hangTime is how long clients may take after the fault is over: an operation is bounded
// by less.
const hangTime = 4 * time.Minute

// await waits for the clients. If one hangs, all processes print where they are, and end.
func (r *round) await(wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(hangTime):
	}
	for _, n := range r.rig.nodes {
		n.signal(syscall.SIGQUIT)
	}
	for _, m := range r.rig.mounts {
		syscall.Kill(m.pid, syscall.SIGQUIT)
	}
	time.Sleep(2 * time.Second) // for their stacks to be written
	for _, m := range r.rig.mounts {
		r.rig.run.kill(m.pid)
	}
	return fmt.Errorf("clients hang, %v after the fault (%v) was over", hangTime, r.notes)
}
