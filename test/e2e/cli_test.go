package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"twofold/test/harness"
)

// A wrong command line or environment is a sentence that says what to do and exit
// status 2, before anything is written anywhere.
func TestWrongCommandLines(t *testing.T) {
	s := harness.New(t, 4)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	noErr(t, err)
	defer busy.Close()
	noErr(t, os.MkdirAll(filepath.Join(s.Dir, "photos"), 0o755))
	noErr(t, os.WriteFile(filepath.Join(s.Dir, "photos", "mine.jpg"), []byte("x"), 0o644))
	noErr(t, os.Symlink("d1", filepath.Join(s.Dir, "link")))
	noErr(t, os.Symlink("self", filepath.Join(s.Dir, "self")))
	server := func(args ...string) []string { return append([]string{"server", "--address", s.Address}, args...) }
	nodes := func(first string, more ...string) []string { // this one and another
		return append(server(more...), "http://"+s.Address+filepath.Join(s.Dir, first), "http://127.0.0.1:1"+filepath.Join(s.Dir, "other"))
	}
	for name, c := range map[string]struct {
		env  []string
		args []string
		says string // what the sentence has
	}{
		"node of directories":         {args: server("--node", "http://127.0.0.1", "d{1...4}"), says: "name no nodes"},
		"node that is not there":      {args: nodes("a", "--node", "http://127.0.0.9"), says: "none of the nodes in the arguments"},
		"https":                       {args: server("https://127.0.0.1:1/a", "https://127.0.0.1:2/b"), says: "later release"},
		"everybody's credentials":     {env: []string{"S3_ROOT_USER=", "S3_ROOT_PASSWORD="}, args: server("--node", "http://192.0.2.1", "http://192.0.2.1/a", "http://192.0.2.2/b"), says: "credentials of its own"},
		"foreign directory of a node": {args: nodes("photos"), says: "http://" + s.Address + filepath.Join(s.Dir, "photos") + " holds files"},
		"no drives":                   {args: server(), says: "no drives given. Try: twofold server"},
		"two dots":                    {args: server("d{1..4}"), says: "three dots"},
		"mixed":                       {args: server("d{1...4}", "other"), says: "d{1...4}"},
		"backwards":                   {args: server("d{4...1}"), says: "d{4...1}"},
		"twice":                       {args: server("a", "a"), says: "each drive is given once"},
		"foreign directory":           {args: server("photos"), says: "photos"},
		"foreign among others":        {args: server("a", "b", "photos", "c"), says: "photos"},
		"port in use":                 {args: []string{"server", "--address", busy.Addr().String(), "a"}, says: "can't listen on " + busy.Addr().String()},
		"bad address":                 {args: []string{"server", "--address", "nonsense", "a"}, says: "--address HOST:PORT"},
		"bad EC":                      {env: []string{"S3_STORAGE_CLASS_STANDARD=EC:9"}, args: server("d{1...4}"), says: "EC:9"},
		"no EC":                       {env: []string{"S3_STORAGE_CLASS_STANDARD=4"}, args: server("d{1...4}"), says: "EC:"},
		"short secret":                {env: []string{"S3_ROOT_PASSWORD=short"}, args: server("d{1...4}"), says: "at least 8 characters"},
		"half credentials":            {env: []string{"S3_ROOT_PASSWORD="}, args: server("d{1...4}"), says: "set both"},
		"bad domain":                  {env: []string{"S3_DOMAIN=http://x"}, args: server("d{1...4}"), says: "not a domain name"},
		"mount in a drive":            {args: server("--mount", "d1/mnt", "d{1...4}"), says: "choose another directory"},
		"mount in a drive, by a link": {args: server("--mount", "link/mnt", "d{1...4}"), says: "choose another directory"},
		"mount on a drive, by a link": {args: server("--mount", "link", "d{1...4}"), says: "choose another directory"},
		"mount over a drive":          {args: server("--mount", ".", "d{1...4}"), says: "choose another directory"},
		"mount on a file":             {args: server("--mount", "photos/mine.jpg", "d{1...4}"), says: "is not a directory"},
		"mount in a file":             {args: server("--mount", "photos/mine.jpg/mnt", "d{1...4}"), says: "not a directory"},
		"server's mount not empty":    {args: server("--mount", "photos", "d{1...4}"), says: "not empty"},
		"mount on a link to itself":   {args: server("--mount", "self", "d{1...4}"), says: "too many levels"},
		"mount where nothing can be":  {args: server("--mount", "/proc/self/mnt", "d{1...4}"), says: "can't be made"},
		"unknown owner":               {args: server("--owner", "nobody-of-this-name", "d{1...4}"), says: "--owner"},
		"bad umask":                   {args: server("--umask", "9", "d{1...4}"), says: "octal"},
		"unknown flag":                {args: server("--no-such-flag", "d{1...4}"), says: "--help"},
		"bad log level":               {args: server("--log-level", "loud", "d{1...4}"), says: "debug, info"},
		"unknown command":             {args: []string{"serve"}, says: "serve"},
		"mount of nothing":            {args: []string{"mount"}, says: "one directory"},
		"mount endpoint":              {args: []string{"mount", "--endpoint", "localhost", "m"}, says: "http://HOST:PORT"},
		"mount not empty":             {args: []string{"mount", "--endpoint", s.URL(""), "photos"}, says: "not empty"},
		"bench of nothing":            {args: []string{"bench", "s3"}, says: "one or two"},
		"version argument":            {args: []string{"version", "x"}, says: "no arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Program(c.env, c.args...)
			if r.Status != 2 || !strings.Contains(r.Stderr, c.says) || !strings.Contains(r.Stderr, "twofold: ") {
				t.Errorf("%q: status %d, want 2 and a sentence with %q:\n%s", c.args, r.Status, c.says, r.Stderr)
			}
			if strings.Contains(r.Stderr, "panic") || strings.Contains(r.Stderr, "short\n") || len(r.Stderr) > 2000 {
				t.Errorf("%s", r.Stderr)
			}
		})
	}
	// None of them formatted anything.
	for _, d := range []string{"a", "b", "c", "d1", "d2", "d3", "d4"} {
		if _, err := os.Stat(filepath.Join(s.Dir, d, "format.json")); err == nil {
			t.Errorf("%s was formatted", d)
		}
	}
	if b, err := os.ReadFile(filepath.Join(s.Dir, "photos", "mine.jpg")); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
}

func TestHelp(t *testing.T) {
	s := harness.New(t, 1)
	for args, says := range map[string]string{
		"--help": "server", "": "server", "server --help": "S3_ROOT_PASSWORD", "mount --help": "--endpoint", "bench --help": "fs", "bench fs --help": "NAME=DIR",
		"version": "twofold ", "--version": "twofold ", "completion bash": "complete", "completion zsh": "compdef", "completion fish": "complete", "help server": "DRIVES",
	} {
		r := s.Program(nil, strings.Fields(args)...)
		if r.Status != 0 || !strings.Contains(r.Stdout, says) || r.Stderr != "" {
			t.Errorf("twofold %s: status %d, %q, %q", args, r.Status, r.Stdout, r.Stderr)
		}
		for line := range strings.Lines(r.Stdout) {
			if !strings.HasPrefix(args, "completion") && len(line) > 170 {
				t.Errorf("twofold %s: a line of %d bytes: %s", args, len(line), line)
			}
		}
	}
}

func TestDefaultCredentials(t *testing.T) {
	s := harness.New(t, 1)
	// The default port is tried only where nobody else has it.
	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		t.Skipf("port 9000 is taken: %v", err)
	}
	l.Close()
	out := &lines{}
	cmd := exec.Command(harness.Binary(t), "server", s.Drives[0])
	cmd.Stderr = out
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "S3_") && !strings.HasPrefix(e, "MINIO_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	noErr(t, cmd.Start())
	defer cmd.Process.Kill()
	out.await(t, "serving")
	if text := out.String(); !strings.Contains(text, "DEFAULT") || !strings.Contains(text, "Set S3_ROOT_USER") || !strings.Contains(text, "127.0.0.1:9000") {
		t.Errorf("no warning:\n%s", text)
	}
	if r, err := http.Get("http://127.0.0.1:9000/"); err != nil || r.StatusCode != 403 {
		t.Errorf("127.0.0.1: %v %v", r, err)
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		ip, _, _ := net.ParseCIDR(a.String())
		if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), "9000"), time.Second); err == nil {
			c.Close()
			t.Errorf("with the default credentials it listens on %s", ip)
		}
	}
	cmd.Process.Signal(syscall.SIGINT)
	noErr(t, cmd.Wait())
}

func (s *store) restart() {
	s.t.Helper()
	if err := s.Stop(); err != nil {
		s.t.Fatalf("stopped with %v, want exit 0", err)
	}
	if harness.Mounted(s.Mount) {
		s.t.Fatal("still mounted after the end")
	}
	s.Start()
}

// A store over its life: stopped, killed, moved, grown, with a drive missing.
func TestLife(t *testing.T) {
	s := newStore(t)
	s.bucket("life")
	big := content(1, 9<<20)
	s.put("life", "big", big)
	noErr(t, os.WriteFile(s.Path("life", "small"), []byte("small"), 0o644))
	check := func(what string) {
		t.Helper()
		s.wantObject("life", "small", []byte("small"))
		s.wantFile(big, "life", "big")
		s.put("life", "since/"+what, []byte(what))
		s.wantFile([]byte(what), "life", "since", what)
		s.wantList("life", "", append(s.list("life", "since/"), "big", "small")...)
	}
	check("started")
	t.Log("SIGTERM")
	s.restart()
	check("stopped")

	t.Log("twice in a moment, as timeout(1) and some supervisors send it")
	s.Signal(syscall.SIGTERM)
	s.Signal(syscall.SIGTERM)
	if err := s.Wait(30 * time.Second); err != nil || harness.Mounted(s.Mount) {
		t.Fatalf("ended with %v, mounted: %v", err, harness.Mounted(s.Mount))
	}
	s.Start()

	t.Log("kill -9 of the server: the mount waits and goes on")
	// Another process has the file open: a child that this one starts closes what it
	// has inherited before it runs, and close waits for the server.
	writer := exec.Command("sh", "-c", "exec 3>open; printf 'before, ' >&3; echo ready; read go; printf after >&3")
	writer.Dir = s.Path("life")
	in, err := writer.StdinPipe()
	noErr(t, err)
	out, err := writer.StdoutPipe()
	noErr(t, err)
	noErr(t, writer.Start())
	defer writer.Process.Kill()
	_, err = out.Read(make([]byte, 6))
	noErr(t, err)
	s.Kill()
	fmt.Fprintln(in)
	s.Start()
	noErr(t, writer.Wait())
	s.wantObject("life", "open", []byte("before, after"))
	s.delete("life", "open")
	check("killed")

	t.Log("kill -9 of the mount and the server: the next start clears the mount point")
	s.Kill()
	s.KillMount()
	waitFor(t, func() bool { return s.MountPid() == 0 })
	if _, err := os.ReadDir(s.Mount); err == nil { // the kernel may still know its attributes
		t.Fatal("the mount point answers")
	}
	s.Start()
	check("mount killed")

	t.Log("kill -9 of the mount alone: it comes back")
	pid := s.MountPid()
	s.KillMount()
	waitFor(t, func() bool {
		p := s.MountPid()
		_, err := os.Stat(s.Path("life"))
		return p != 0 && p != pid && err == nil
	})
	check("mount back")

	t.Log("Ctrl-C while a file and a directory are in use")
	busy := exec.Command("sh", "-c", "exec 3>open-file; echo ready; sleep 1000")
	busy.Dir = s.Path("life")
	ready, err := busy.StdoutPipe()
	noErr(t, err)
	noErr(t, busy.Start())
	defer busy.Process.Kill()
	ready.Read(make([]byte, 5))
	s.Signal(syscall.SIGINT)
	if err := s.Wait(60 * time.Second); err != nil || harness.Mounted(s.Mount) {
		t.Fatalf("ended with %v, mounted: %v", err, harness.Mounted(s.Mount))
	}
	if log := s.Log(); !strings.Contains(log, "in use") {
		t.Errorf("the log does not say that the mount was in use:\n%s", log)
	}
	busy.Process.Kill()
	busy.Wait()
	s.Start()
	s.delete("life", "open-file")
	check("busy")

	t.Log("two drives changed places")
	noErr(t, s.Stop())
	swap(t, s.Drives[0], s.Drives[2])
	s.Start()
	check("swapped")

	t.Log("a drive is missing: it is named, and the store goes on")
	noErr(t, s.Stop())
	noErr(t, os.Rename(s.Drives[1], s.Drives[1]+".away"))
	s.Start()
	if !strings.Contains(s.Log(), s.Drives[1]) {
		t.Errorf("the missing drive is not named:\n%s", s.Log())
	}
	check("one missing")
	noErr(t, s.Stop())
	noErr(t, os.RemoveAll(s.Drives[1]))
	noErr(t, os.Rename(s.Drives[1]+".away", s.Drives[1]))

	t.Log("a drive of another store is named and refused")
	other := harness.Start(t, 4)
	noErr(t, other.Stop())
	noErr(t, os.Rename(s.Drives[3], s.Drives[3]+".away"))
	noErr(t, os.Rename(other.Drives[0], s.Drives[3]))
	r := s.Program(nil, append([]string{"server", "--address", s.Address}, s.Args...)...)
	if r.Status == 0 || !strings.Contains(r.Stderr, s.Drives[3]+" is a drive of another store") {
		t.Errorf("status %d\n%s", r.Status, r.Stderr)
	}
	noErr(t, os.Rename(s.Drives[3], other.Drives[0]))
	noErr(t, os.Rename(s.Drives[3]+".away", s.Drives[3]))

	t.Log("a second server on the same drives is refused, and a pool is added")
	s.Args = append(s.Args, filepath.Join(s.Dir, "p{1...4}"))
	// Its directories have to be there: else a pool whose disks are not mounted would be
	// made anew in the place of the real one.
	r = s.Program(nil, append([]string{"server", "--address", s.Address}, s.Args...)...)
	if r.Status != 2 || !strings.Contains(r.Stderr, "make them all, empty") {
		t.Errorf("a pool without its directories: status %d\n%s", r.Status, r.Stderr)
	}
	for i := 1; i <= 4; i++ {
		noErr(t, os.Mkdir(filepath.Join(s.Dir, fmt.Sprint("p", i)), 0o755))
	}
	s.Start()
	r = s.Program(nil, append([]string{"server", "--address", "127.0.0.1:0"}, s.Args...)...)
	if r.Status == 0 || !strings.Contains(r.Stderr, "in use") {
		t.Errorf("a second server: status %d\n%s", r.Status, r.Stderr)
	}
	check("grown")
	if n := blobs(t, filepath.Join(s.Dir, "p1")); n != 0 {
		t.Logf("%d blobs in the new pool already", n)
	}
	for i := range 8 {
		s.put("life", fmt.Sprint("since/large", i), content(byte(i), 1<<20))
	}
	if blobs(t, filepath.Join(s.Dir, "p1")) == 0 {
		t.Error("nothing is written to the new, emptier pool")
	}
	s.restart()
	check("grown and restarted")

	t.Log("a pool that is left off the command line is missed")
	noErr(t, s.Stop())
	r = s.Program(nil, "server", "--address", s.Address, s.Args[0])
	if r.Status != 2 || !strings.Contains(r.Stderr, "the store has 2 pools and the command line gives 1") {
		t.Errorf("without its second pool: status %d\n%s", r.Status, r.Stderr)
	}
	s.Start()
	check("with all its pools again")
}

// TestMountByHand mounts with `twofold mount`, where the server has no mount.
func TestMountByHand(t *testing.T) {
	harness.NeedMount(t)
	s := harness.Start(t, 1)
	dir := filepath.Join(s.Dir, "hand")
	st := &store{Server: s, t: t, c: s.S3()}
	st.bucket("bucket")
	out := &lines{}
	cmd := exec.Command(harness.Binary(t), "mount", "--endpoint", s.URL(""), dir)
	cmd.Stderr, cmd.Env = out, append(os.Environ(), "S3_ROOT_USER="+harness.User, "S3_ROOT_PASSWORD="+harness.Password)
	noErr(t, cmd.Start())
	defer syscall.Unmount(dir, 2)
	defer cmd.Process.Kill()
	out.await(t, "mounted")
	st.put("bucket", "k", []byte("v"))
	b, err := os.ReadFile(filepath.Join(dir, "bucket", "k"))
	noErr(t, err)
	same(t, "read", b, []byte("v"))
	if r := s.Program(nil, "mount", "--endpoint", s.URL(""), dir); r.Status != 2 || !strings.Contains(r.Stderr, "already") && !strings.Contains(r.Stderr, "not empty") {
		t.Errorf("a second mount: %d %s", r.Status, r.Stderr)
	}
	if r := s.Program([]string{"S3_ROOT_PASSWORD=not-the-right-one"}, "mount", "--endpoint", s.URL(""), filepath.Join(s.Dir, "wrong")); r.Status == 0 ||
		!strings.Contains(r.Stderr, "S3_ROOT_PASSWORD") {
		t.Errorf("wrong credentials: %d %s", r.Status, r.Stderr)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	noErr(t, cmd.Wait())
	if harness.Mounted(dir) {
		t.Error("still mounted")
	}
	noErr(t, s.Stop())
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("it did not come to be within 30 s")
}

func swap(t *testing.T, a, b string) {
	noErr(t, os.Rename(a, a+".tmp"))
	noErr(t, os.Rename(b, a))
	noErr(t, os.Rename(a+".tmp", b))
}

// blobs counts the files that hold shards on a drive.
func blobs(t *testing.T, drive string) (n int) {
	t.Helper()
	noErr(t, filepath.WalkDir(filepath.Join(drive, "blobs"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		if os.IsNotExist(err) {
			return nil // collected meanwhile
		}
		return err
	}))
	return n
}

// lines is what a process printed so far.
type lines struct {
	mu sync.Mutex
	b  []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

func (l *lines) await(t *testing.T, word string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !strings.Contains(l.String(), word) {
		if ctx.Err() != nil {
			t.Fatalf("no %q in\n%s", word, l)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
