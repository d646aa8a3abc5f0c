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
	where  where
	// impatient: clients of S3 leave some requests while they are answered.
	impatient bool
	maps      bool // it passes without this process: there may be mappings
	weight    int
	run       func(*round, *rand.Rand)
}

// where is what a fault needs.
type where int

const (
	anywhere where = iota
	alone          // one server
	among          // nodes
)

// longerThanLease is how long a mount is stopped: the lease term is 5 s, and 2 s over nodes.
const longerThanLease = 7 * time.Second

var faultKinds = []fault{
	{name: "kill server", weight: 6, where: alone, run: func(r *round, rng *rand.Rand) { r.killNode(rng, 0) }},
	{name: "kill leader", weight: 6, where: among, run: func(r *round, rng *rand.Rand) { r.killNode(rng, r.rig.leader()) }},
	{name: "kill node", weight: 3, where: among, run: func(r *round, rng *rand.Rand) { r.killNode(rng, r.follower(rng)) }},
	{name: "stop leader", weight: 6, where: among, run: func(r *round, rng *rand.Rand) { r.stopNode(rng, r.rig.leader()) }},
	{name: "stop node", weight: 2, where: among, run: func(r *round, rng *rand.Rand) { r.stopNode(rng, r.follower(rng)) }},
	{name: "mute leader", weight: 4, where: among, run: func(r *round, rng *rand.Rand) { r.muteNode(rng, r.rig.leader(), shortPause(rng)) }},
	{name: "mute leader long", weight: 4, losses: true, where: among, run: muteLeader},
	{name: "mute node", weight: 2, where: among, run: func(r *round, rng *rand.Rand) { r.muteNode(rng, r.follower(rng), somePause(rng)) }},
	{name: "kill mount", weight: 6, losses: true, run: killMount},
	{name: "stop mount", weight: 1, losses: true, run: stopMount},
	{name: "reset connections", weight: 4, impatient: true, maps: true, run: resetConnections},
	{name: "drive EIO", weight: 3, losses: true, drives: true, run: func(r *round, rng *rand.Rand) { breakDrive(r, rng, powerfs.EIO) }},
	{name: "drive hangs", weight: 1, losses: true, drives: true, run: func(r *round, rng *rand.Rand) { breakDrive(r, rng, powerfs.Hang) }},
	{name: "drive vanishes", weight: 2, losses: true, run: loseDrive},
}

// pickFault chooses one that the rig can do.
func pickFault(rng *rand.Rand, r *rig, only string) *fault {
	var all []*fault
	drives, behind := r.drives != nil, r.behind
	for i := range faultKinds {
		f := &faultKinds[i]
		if f.where == alone && len(r.nodes) > 1 || f.where == among && len(r.nodes) == 1 {
			continue
		}
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

// killNode kills a server -9, and another one takes its place.
func (r *round) killNode(rng *rand.Rand, i int) {
	pause(rng, 300*time.Millisecond)
	n := r.rig.nodes[i]
	n.kill()
	r.note(fmt.Sprint("node ", i+1))
	pause(rng, 500*time.Millisecond)
	if len(r.rig.nodes) > 1 && rng.IntN(2) == 0 { // the others go on without it meanwhile
		pause(rng, 4*time.Second)
	}
	n.launch()
	n.await()
}

// follower is a node that does not lead.
func (r *round) follower(rng *rand.Rand) int {
	n := len(r.rig.nodes)
	return (r.rig.leader() + 1 + rng.IntN(n-1)) % n
}

// somePause is how long nodes are stopped or not heard: shorter and longer than what it
// takes for another one to lead.
func somePause(rng *rand.Rand) time.Duration {
	return time.Duration(500+rng.IntN(3500)) * time.Millisecond
}

// shortPause is shorter than the lease term of several nodes, which is 2 s, by more than
// mounts' keep-alives are apart.
func shortPause(rng *rand.Rand) time.Duration {
	return time.Duration(200+rng.IntN(800)) * time.Millisecond
}

// muteLeader is longer: the node goes on leading, for its own calls to the others are
// answered, and revokes the leases of mounts that it does not hear.
func muteLeader(r *round, rng *rand.Rand) {
	r.lossy(r.rig.mounts...)
	r.muteNode(rng, r.rig.leader(), somePause(rng))
}

// stopNode stops a server, which then goes on from what it believed: SIGSTOP.
func (r *round) stopNode(rng *rand.Rand, i int) {
	pause(rng, 300*time.Millisecond)
	n, d := r.rig.nodes[i], somePause(rng)
	r.note(fmt.Sprintf("node %d for %v", i+1, d))
	n.signal(syscall.SIGSTOP)
	time.Sleep(d)
	n.signal(syscall.SIGCONT)
}

// muteNode holds back what is sent to a node, and what it answers. What it sends to other
// nodes of itself gets there.
func (r *round) muteNode(rng *rand.Rand, i int, d time.Duration) {
	pause(rng, 300*time.Millisecond)
	r.note(fmt.Sprintf("node %d for %v", i+1, d))
	r.rig.nodes[i].net.mute(d)
	time.Sleep(d)
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
		r.someNetwork(rng).reset()
	}
}

// someNetwork is that of a mount, or of a node: half of the times of the one that leads.
func (r *round) someNetwork(rng *rand.Rand) *network {
	if n := len(r.rig.nodes); n > 1 {
		i := r.rig.leader()
		if rng.IntN(2) == 0 {
			i = rng.IntN(n)
		}
		return r.rig.nodes[i].net
	}
	return r.someMount(rng).net
}

// breakDrive breaks one drive for a while.
func breakDrive(r *round, rng *rand.Rand, k powerfs.FaultKind) {
	r.lossy(r.rig.mounts...)
	pause(rng, 300*time.Millisecond)
	f := powerfs.Fault{Kind: k, Drive: rng.IntN(len(r.rig.allDrives()))}
	f.Class = []powerfs.Class{"", powerfs.Write, powerfs.Fsync, powerfs.Read}[rng.IntN(4)]
	id := r.rig.drives.Fault(f)
	time.Sleep(time.Duration(500+rng.IntN(2000)) * time.Millisecond)
	r.rig.drives.ClearFault(id)
	r.note(fmt.Sprintf("drive %d %s %s", f.Drive, f.Kind, f.Class))
}

// loseDrive removes a drive and puts an empty directory in its place, once the last
// one that was lost is full again.
func loseDrive(r *round, rng *rand.Rand) {
	drives, replicas := r.rig.allDrives(), 0
	for _, d := range drives {
		if _, err := os.Stat(filepath.Join(d, "healing")); err == nil {
			return
		}
		if b, err := os.ReadFile(filepath.Join(d, "meta", "g0", "replica.json")); err == nil && len(b) > 0 {
			replicas++
		}
	}
	if replicas < 4 {
		return
	}
	r.lossy(r.rig.mounts...)
	pause(rng, 300*time.Millisecond)
	d := drives[rng.IntN(len(drives))]
	for range 1000 {
		if os.RemoveAll(d) == nil {
			break
		}
	}
	time.Sleep(time.Duration(200+rng.IntN(1000)) * time.Millisecond)
	os.Mkdir(d, 0o755)
	r.note("lost and replaced " + filepath.Base(d))
}

// allDrives are the drives of all nodes.
func (r *rig) allDrives() (dirs []string) {
	for _, n := range r.nodes {
		dirs = append(dirs, n.srv.Drives...)
	}
	return dirs
}
