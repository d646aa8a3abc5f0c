package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"twofold/test/powerfs"
)

// fault is something that breaks in a round.
type fault struct {
	name   string
	losses bool // mounts may lose what they have not written
	drives bool // it needs drives that can break
	// impatient: clients of S3 leave some requests while they are answered.
	impatient bool
	maps      bool // it passes without this process: there may be mappings
	weight    int
	run       func(*round, *rand.Rand)
}

// longerThanLease is how long a mount is stopped: the lease term is 5 s.
const longerThanLease = 7 * time.Second

var faultKinds = []fault{
	{name: "kill server", weight: 6, run: killServer},
	{name: "kill mount", weight: 6, losses: true, run: killMount},
	{name: "stop mount", weight: 1, losses: true, run: stopMount},
	{name: "reset connections", weight: 4, impatient: true, maps: true, run: resetConnections},
	{name: "drive EIO", weight: 3, losses: true, drives: true, run: func(r *round, rng *rand.Rand) { breakDrive(r, rng, powerfs.EIO) }},
	{name: "drive hangs", weight: 1, losses: true, drives: true, run: func(r *round, rng *rand.Rand) { breakDrive(r, rng, powerfs.Hang) }},
	{name: "drive vanishes", weight: 2, losses: true, run: loseDrive},
}

// pickFault chooses one that the rig can do.
func pickFault(rng *rand.Rand, drives, behind bool, only string) *fault {
	var all []*fault
	for i := range faultKinds {
		f := &faultKinds[i]
		// A lost drive is removed with all in it, which a mount point can't be.
		if f.drives != drives && (f.drives || f.name == "drive vanishes") || only != "" && f.name != only {
			continue
		}
		if f.losses && behind { // names may be lost as well, which the model does not know
			continue
		}
		for range f.weight {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[rng.IntN(len(all))]
}

func pause(rng *rand.Rand, d time.Duration) { time.Sleep(time.Duration(rng.Int64N(int64(d)))) }

func killServer(r *round, rng *rand.Rand) {
	pause(rng, 300*time.Millisecond)
	r.rig.kill()
	pause(rng, 500*time.Millisecond)
	r.rig.start()
}

func (r *round) someMount(rng *rand.Rand) *mount { return r.rig.mounts[rng.IntN(len(r.rig.mounts))] }

func killMount(r *round, rng *rand.Rand) {
	pause(rng, 300*time.Millisecond)
	m := r.someMount(rng)
	op := &Op{Kind: Died, View: m.current()}
	r.rec.do(r.faultClient, op, func() *Out { m.kill(); return &Out{} })
	pause(rng, 300*time.Millisecond)
	m.start()
	m.open(r.bucket)
}

// lossy notes that mounts may lose what they hold from now on.
func (r *round) lossy(mounts ...*mount) {
	for _, m := range mounts {
		r.rec.do(r.faultClient, &Op{Kind: Lossy, View: m.current()}, func() *Out { return &Out{} })
	}
}

func stopMount(r *round, rng *rand.Rand) {
	pause(rng, 300*time.Millisecond)
	m := r.someMount(rng)
	r.lossy(m)
	syscall.Kill(m.pid, syscall.SIGSTOP)
	time.Sleep(longerThanLease)
	syscall.Kill(m.pid, syscall.SIGCONT)
}

func resetConnections(r *round, rng *rand.Rand) {
	for range 1 + rng.IntN(4) {
		pause(rng, 150*time.Millisecond)
		r.someMount(rng).net.reset()
	}
}

// breakDrive breaks one drive for a while.
func breakDrive(r *round, rng *rand.Rand, k powerfs.FaultKind) {
	r.lossy(r.rig.mounts...)
	pause(rng, 300*time.Millisecond)
	f := powerfs.Fault{Kind: k, Drive: rng.IntN(4)}
	f.Class = []powerfs.Class{"", powerfs.Write, powerfs.Fsync, powerfs.Read}[rng.IntN(4)]
	id := r.rig.drives.Fault(f)
	time.Sleep(time.Duration(500+rng.IntN(2000)) * time.Millisecond)
	r.rig.drives.ClearFault(id)
	r.note(fmt.Sprintf("drive %d %s %s", f.Drive, f.Kind, f.Class))
}

// loseDrive removes a drive and puts an empty directory in its place, once the last
// one that was lost is full again.
func loseDrive(r *round, rng *rand.Rand) {
	for _, d := range r.rig.srv.Drives {
		if _, err := os.Stat(filepath.Join(d, "healing")); err == nil {
			return
		}
		if b, err := os.ReadFile(filepath.Join(d, "meta", "g0", "replica.json")); err != nil || len(b) == 0 {
			return
		}
	}
	r.lossy(r.rig.mounts...)
	pause(rng, 300*time.Millisecond)
	d := r.rig.srv.Drives[rng.IntN(len(r.rig.srv.Drives))]
	for range 1000 {
		if os.RemoveAll(d) == nil {
			break
		}
	}
	time.Sleep(time.Duration(200+rng.IntN(1000)) * time.Millisecond)
	os.Mkdir(d, 0o755)
	r.note("lost and replaced " + filepath.Base(d))
}
