// Package powerfs gives tests drives that lose power: FUSE file systems in another
// process that forget arbitrary subsets of what was not fsynced, pages and
// directory entries, when the test cuts the power. They can also fail, fill up,
// hang, flip bytes and lie about fsync.
//
//	fs := powerfs.Start(t, powerfs.Options{Drives: 4})
//	... start a program on fs.Dir(0) ... fs.Dir(3), let it acknowledge things ...
//	fs.PowerCut(seed)  // all drives at the same instant
//	... kill the program: its drives are gone (ENOTCONN) ...
//	fs.Restart()
//	... start it again: what it acknowledged must be there ...
//
// What survives a cut. Of a file: what it held at the last fsync or fdatasync of
// it; each page written since is in any state it had since, independently of the
// others, and with one seed in two one page is torn at a 512-byte sector. The size
// is one it had since, or a page boundary on the way when it grew. Of a directory:
// the names at its last fsync; each create, link, unlink, rename, mkdir and rmdir
// since is kept or forgotten, independently, but a rename is atomic, operations on
// one name keep their order, and a directory is not removed before what was in it
// or moved into itself. In one seed of four the operations are kept up to a moment
// and forgotten after.
//
// That is the least that POSIX promises, and less than what ext4 and XFS keep. Like
// these are Options.Ordered with Options.EntryWithFsync: directory operations and
// truncations (but no other change of size) survive in their order, an fsync of any
// directory makes all before it durable, and an fsync of any file too.
//
// What is dirty in the kernel's page cache at the cut is lost, as it would be.
//
// What is not modelled: modes, owners and times survive as they were last;
// syncfs(2) and sync(2) write pages back but the kernel doesn't tell a FUSE file
// system about them, so they make nothing durable (FS.Sync does). There are no
// xattrs and no device nodes. FUSE has one cache per mount: names and attributes
// are never cached, pages are.
package powerfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"twofold/test/powerfs/internal/serve"
)

// Options of Start.
type Options struct {
	Drives         int    // how many; 0 is 1
	Dir            string // where mounts and backing files go, on a real disk with space; "" is t.TempDir()
	WriteThrough   bool   // no write-back cache: write(2) meets faults itself, instead of the fsync after it
	EntryWithFsync bool   // as ext4 and XFS: fsync of a file makes its directory entries durable too
	Ordered        bool   // as with a journal: directory operations and truncations survive up to a moment in time
}

// FS is the running file systems of a test. Methods fail the test when powerfs
// does not do as it is told; they are safe for concurrent use, but for PowerCut,
// Restart and the end of the test.
type FS struct {
	t    testing.TB
	opts Options
	dir  string
	proc *process // nil after PowerCut
}

// Start mounts fresh, empty drives, and removes them at the end of the test. The
// test is skipped where there is no FUSE.
func Start(t testing.TB, opts Options) *FS {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("powerfs needs FUSE: %v", err)
	}
	f.Close()
	fs := &FS{t: t, opts: opts, dir: opts.Dir}
	fs.opts.Drives = max(opts.Drives, 1)
	if fs.dir == "" {
		fs.dir = t.TempDir()
	}
	for i := range fs.opts.Drives {
		for _, d := range []string{fs.Dir(i), fs.backing(i)} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(fs.end)
	fs.spawn()
	return fs
}

// Dir is the mount point of drive i, the same for the whole test.
func (fs *FS) Dir(i int) string { return filepath.Join(fs.dir, fmt.Sprintf("drive%d", i)) }

func (fs *FS) backing(i int) string { return filepath.Join(fs.dir, fmt.Sprintf("backing%d", i)) }

// PowerCut cuts the power of all drives and chooses by the seed what survives. It
// returns the survivors' directories, one per drive, to look at until Restart
// takes them in. The mounts stay, dead: every use is an error. Requests that were
// under way have failed.
func (fs *FS) PowerCut(seed uint64) []string {
	fs.t.Helper()
	if fs.proc == nil {
		fs.t.Fatal("powerfs: the power is off already")
	}
	var dirs []string
	fs.must(fs.proc.client.call(&dirs, "powercut", fmt.Sprint(seed)))
	fs.must(fs.proc.wait())
	fs.proc = nil
	return dirs
}

// Restart mounts what survived the power cut, without faults. Without a power cut
// before it, it is an orderly unmount and mount: nothing is forgotten, and nothing
// may be open.
func (fs *FS) Restart() {
	fs.t.Helper()
	if fs.proc != nil {
		fs.must(fs.proc.client.call(nil, "stop"))
		fs.must(fs.proc.wait())
		fs.proc = nil
	}
	fs.detach()
	fs.spawn()
}

func (fs *FS) must(err error) {
	if err != nil {
		fs.t.Helper()
		fs.t.Fatalf("powerfs: %v", err)
	}
}

func (fs *FS) detach() {
	for i := range fs.opts.Drives {
		if err := serve.Detach(fs.Dir(i)); err != nil {
			fs.t.Errorf("powerfs: unmount %s: %v", fs.Dir(i), err)
		}
	}
}

// end is the clean-up: it must do its work whatever state a failed test is in.
func (fs *FS) end() {
	if fs.proc != nil {
		fs.proc.kill()
		fs.proc = nil
	}
	fs.detach()
	if fs.opts.Dir != "" {
		for i := range fs.opts.Drives {
			os.Remove(fs.Dir(i)) // only when empty: never what is below by mistake
			os.RemoveAll(fs.backing(i))
		}
	}
}

func (fs *FS) spawn() {
	fs.t.Helper()
	bin, err := binary()
	fs.must(err)
	socket, err := os.MkdirTemp("", "powerfs") // a socket's path is short
	fs.must(err)
	args := []string{"-exit-with-stdin", "-control", filepath.Join(socket, "control")}
	for i := range fs.opts.Drives {
		// Relative, for a test's directory may have a "=" in its name.
		args = append(args, "-mount", filepath.Base(fs.Dir(i))+"="+filepath.Base(fs.backing(i)))
	}
	for flag, on := range map[string]bool{
		"-write-through": fs.opts.WriteThrough, "-entry-with-fsync": fs.opts.EntryWithFsync, "-ordered": fs.opts.Ordered,
	} {
		if on {
			args = append(args, flag)
		}
	}
	fs.proc, err = start(bin, fs.dir, args, socket)
	fs.must(err)
}

// process is a running powerfs.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // its end tells the process that we are gone
	client client
	socket string // directory of the control socket
	done   chan struct{}
	err    error // after done
}

// startTime is how long a powerfs may take to mount, cutTime how long it may take
// to end after it has said so.
const (
	startTime = 30 * time.Second
	cutTime   = 30 * time.Second
)

func start(bin, dir string, args []string, socket string) (*process, error) {
	p := &process{
		cmd: exec.Command(bin, args...), client: client{filepath.Join(socket, "control")},
		socket: socket, done: make(chan struct{}),
	}
	p.cmd.Dir, p.cmd.Stderr = dir, os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	select {
	case err = <-ready:
	case <-time.After(startTime):
		err = errors.New("not ready in time")
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

// wait waits for the process to end by itself.
func (p *process) wait() error {
	select {
	case <-p.done:
	case <-time.After(cutTime):
		p.kill()
		return errors.New("it did not end")
	}
	p.stdin.Close()
	os.RemoveAll(p.socket)
	return p.err
}

// kill ends the process, whatever it does.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(cutTime):
	}
	os.RemoveAll(p.socket)
}
