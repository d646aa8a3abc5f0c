package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// mount(8) gives a file system that the kernel doesn't know by itself to a helper in
// /sbin. This program is the helper under either name: `mount -t fuse.twofold` looks for
// the first, `mount -t twofold` for the second. See mount(8), "EXTERNAL HELPERS".
var helperNames = []string{"mount.fuse.twofold", "mount.twofold"}

// isMountHelper reports whether the program was started under one of the names.
func isMountHelper(argv0 string) bool {
	for _, n := range helperNames {
		if filepath.Base(argv0) == n {
			return true
		}
	}
	return false
}

// Exit statuses of mount(8).
const (
	helperUsage  = 1  // incorrect invocation or permissions
	helperSystem = 2  // system error
	helperFailed = 32 // mount failure
)

const helperForm = "it is called as SOURCE DIR [-fnsv] [-o OPTIONS], SOURCE being [http://]HOST[:PORT][,...][/BUCKET[/PREFIX]]"

// runMountHelper is the helper: it starts a mount process in the background, waits until
// that serves or has failed, and returns the exit status.
func runMountHelper(name string, args []string, stderr io.Writer) int {
	name = filepath.Base(name)
	h, err := parseHelper(args)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return helperUsage
	}
	if h.fake {
		return 0
	}
	cmd, err := h.command()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return helperSystem
	}
	if h.verbose {
		fmt.Fprintf(stderr, "%s: %s\n", name, strings.Join(cmd.Args, " "))
	}
	return startDaemon(name, cmd, stderr)
}

// helperCall is the helper's command line.
type helperCall struct {
	source, dir string
	fake        bool // -f: all but the mount
	sloppy      bool // -s: unknown options are left alone
	verbose     bool
	flags       []string // of `twofold mount`
}

func parseHelper(args []string) (*helperCall, error) {
	h := &helperCall{}
	var words, options []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if len(a) < 2 || a[0] != '-' {
			words = append(words, a)
			continue
		}
		for j := 1; j < len(a); j++ {
			switch c := a[j]; c {
			case 'f':
				h.fake = true
			case 's':
				h.sloppy = true
			case 'v':
				h.verbose = true
			case 'n', 'w': // there is no mtab; rw is the default
			case 'r':
				options = append(options, "ro")
			case 'o', 't', 'N':
				value := a[j+1:]
				if value == "" {
					if i++; i == len(args) {
						return nil, fmt.Errorf("-%c has no value: %s", c, helperForm)
					}
					value = args[i]
				}
				if c == 'N' {
					return nil, fmt.Errorf("-N: mounting in another namespace is not supported: use nsenter(1)")
				}
				if c == 'o' {
					options = append(options, splitOptions(value)...)
				}
				j = len(a)
			default:
				return nil, fmt.Errorf("there is no option -%c: %s", c, helperForm)
			}
		}
	}
	if len(words) != 2 {
		return nil, fmt.Errorf("%s", helperForm)
	}
	h.source, h.dir = words[0], words[1]
	if _, err := parseSource(h.source); err != nil {
		return nil, err
	}
	var err error
	h.flags, err = helperFlags(options, h.sloppy)
	return h, err
}

// command is the mount process. Its working directory is the root, so that it keeps no
// other file system busy.
func (h *helperCall) command() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(h.dir)
	if err != nil {
		return nil, err
	}
	args := append([]string{"mount"}, h.flags...)
	cmd := exec.Command(self, append(args, "--", h.source, dir)...)
	cmd.Args[0] = "twofold"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

// startDaemon starts the process and returns when it says that it serves, or has ended:
// then it has said why on stderr.
func startDaemon(name string, cmd *exec.Cmd, stderr io.Writer) int {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return helperSystem
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w} // descriptor 3
	cmd.Env = append(os.Environ(), readyVar+"=3")
	cmd.Stderr = stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return helperSystem
	}
	line := make([]byte, 16)
	if n, _ := r.Read(line); n > 0 {
		cmd.Process.Release()
		return 0
	}
	if cmd.Wait(); cmd.ProcessState.ExitCode() == exitUsage {
		return helperUsage
	}
	return helperFailed
}
