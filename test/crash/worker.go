package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// errUnsure ends an operation after which the worker has to look where it is.
var errUnsure = errors.New("the outcome is unknown")

// worker works in a directory of its own, through both views.
type worker struct {
	r      *rig
	dir    string
	rng    *rand.Rand
	worlds []*world // all that are possible
	held   []*held
	shared *shared
	recent []string // the last operations, for a person
	mix    mix

	ops, unknowns, looks atomic.Int64
}

// held is a file kept open, with what was written to it perhaps still in the mount.
type held struct {
	f      *os.File
	id     int
	mounts int64
}

// mix says what a worker does.
type mix struct {
	noMount bool // S3 only
	big     int  // percent of files that are of megabytes
	blobs   bool // no file is small enough to be without a blob, and most operations replace one
	fault   bool // the drives are at fault: errors are expected, and tell nothing
}

func newWorker(r *rig, dir string, seed uint64, m mix, sh *shared) *worker {
	return &worker{r: r, dir: dir, rng: rand.New(rand.NewPCG(seed, uint64(len(dir)))), worlds: []*world{newWorld()}, mix: m, shared: sh}
}

// setup makes the worker's directory, explicitly, so that it stays when it is empty.
func (w *worker) setup() error {
	return w.r.put(w.dir+"/", nil)
}

// world is the only possible one. Only between operations.
func (w *worker) world() *world { return w.worlds[0] }

func (w *worker) key(p string) string { return w.dir + "/" + p }

func (w *worker) log(format string, args ...any) {
	s := fmt.Sprintf("%s server kills %d, mount kills %d: ", time.Now().Format("15:04:05.000"), w.r.servers.Load(), w.r.mounts.Load())
	w.recent = append(w.recent, s+fmt.Sprintf(format, args...))
	if len(w.recent) > 60 {
		w.recent = w.recent[len(w.recent)-40:]
	}
}

// step notes the outcome of one operation: it happened, or perhaps.
func (w *worker) step(err error, change func(*world), format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	w.log("%s: %s", what, describe(err))
	w.ops.Add(1)
	switch {
	case err == nil:
		for _, x := range w.worlds {
			change(x)
		}
		return nil
	case unknown(err):
		w.unknowns.Add(1)
		for _, x := range w.worlds[:len(w.worlds):len(w.worlds)] {
			y := x.clone()
			change(y)
			w.worlds = append(w.worlds, y)
		}
		return errUnsure
	default:
		w.bad("%s: %v", what, err)
		return errUnsure
	}
}

// bad reports a violation in the worker's directory, with how it came to it.
func (w *worker) bad(format string, args ...any) {
	w.r.violation("in %s: %s\n  the last operations there:\n    %s", w.dir, fmt.Sprintf(format, args...), strings.Join(w.recent, "\n    "))
}

// run works until stop is closed, and leaves what it did to be verified.
func (w *worker) run(stop <-chan struct{}) {
	for {
		w.r.waitUp(stop)
		select {
		case <-stop:
			w.drop()
			return
		case <-w.r.fail:
			w.drop()
			return
		default:
		}
		if len(w.worlds) > 1 || w.world().anyUnsure(w.r.mounts.Load()) {
			// What was under way when something died may end a moment later.
			time.Sleep(100 * time.Millisecond)
			w.r.waitUp(stop)
			w.look(w.view())
			continue
		}
		if err := w.operation(); err != nil {
			w.drop()
		}
	}
}

// drop closes what is held; what that means for unsynced bytes is nothing.
func (w *worker) drop() {
	for len(w.held) > 0 {
		w.unhold(w.held[0])
	}
}

func (w *worker) view() string {
	if w.mix.noMount || w.rng.IntN(2) == 0 {
		return viewS3
	}
	return viewMount
}

func (w *worker) read(view string) (*tree, error) {
	if view == viewS3 {
		return w.r.readS3(w.dir)
	}
	return w.r.readMount(w.dir)
}

// look reads the worker's directory and settles which world it is. An error that is
// no violation is returned: try again when everything is up.
func (w *worker) look(view string) error {
	before := w.r.mounts.Load()
	t, err := w.read(view)
	w.log("look by %s: %s", view, describe(err))
	var lie *inconsistent
	if errors.As(err, &lie) {
		if view == viewS3 && before != w.r.mounts.Load() {
			return err // the mount died between LIST and GET, with what it had not synced
		}
		w.bad("%v", err)
		return err
	}
	if err != nil {
		if !unknown(err) {
			w.bad("reading by %s: %v", view, err)
		}
		return err
	}
	w.looks.Add(1)
	mounts := w.r.mounts.Load()
	var why []string
	for _, x := range w.worlds {
		s := x.match(t, before, mounts, w.mix.fault)
		if s == "" {
			w.worlds = []*world{x}
			return nil
		}
		why = append(why, s)
	}
	w.bad("what %s shows is none of the %d states that are possible:\n    %s", view, len(w.worlds), strings.Join(why, "\n  or\n    "))
	return errUnsure
}

// verify looks by both views, which then agree byte for byte.
func (w *worker) verify() {
	w.drop()
	views := []string{viewS3, viewMount}
	if w.rng.IntN(2) == 0 {
		views = []string{viewMount, viewS3}
	}
	if w.mix.noMount {
		views = views[:0:0]
		views = append(views, viewS3)
	}
	for _, v := range views {
		var err error
		for try := 0; try < 20 && !w.r.failed(); try++ {
			if err = w.look(v); err == nil {
				break
			}
			time.Sleep(250 * time.Millisecond)
		}
		if err != nil && !w.r.failed() {
			w.bad("%s can't be read by %s: %v", w.dir, v, err)
		}
	}
}
