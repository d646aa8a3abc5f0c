package fusefs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// programs are what a test runs in a process of its own.
func programs() map[string]func(args []string) error {
	return map[string]func([]string) error{
		"mapping": func(args []string) error { return mappingProgram(args, os.O_RDWR) },
		"view":    func(args []string) error { return mappingProgram(args, os.O_RDONLY) },
		"append":  appendProgram,
		"signal":  signalProgram,
		"serve":   serveProgram,
		"lock":    lockProgram,
		"stuck":   stuckProgram,
		"guard":   RunGuard,
	}
}

// program starts one of them.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "FUSEFS_PROGRAM="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// talk is a program that answers each line with a line.
type talk struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startTalk(t testing.TB, name string, args ...string) *talk {
	t.Helper()
	return startTalkOf(t, program(t, name, args...))
}

func startTalkOf(t testing.TB, cmd *exec.Cmd) *talk {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	k := &talk{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(k.stop)
	return k
}

func (k *talk) stop() {
	k.in.Close()
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			k.cmd.Process.Kill()
		}
	}()
	k.cmd.Wait()
	close(done)
}

func (k *talk) say(line string) string {
	k.t.Helper()
	fmt.Fprintln(k.in, line)
	answer, err := k.out.ReadString('\n')
	if err != nil {
		k.t.Fatalf("%s: no answer to %q: %v", k.cmd.Env[len(k.cmd.Env)-1], line, err)
	}
	return strings.TrimSpace(answer)
}

func (k *talk) want(line, want string) {
	k.t.Helper()
	if got := k.say(line); got != want {
		k.t.Fatalf("%q: got %q, want %q", line, got, want)
	}
}

// mappingProgram maps a file, shared, and loads and stores as it is told.
func mappingProgram(args []string, mode int) error {
	f, err := os.OpenFile(args[0], mode, 0)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	prot := unix.PROT_READ
	if mode == os.O_RDWR {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		w := strings.Fields(in.Text())
		answer := "ok"
		switch w[0] {
		case "store":
			off, _ := strconv.Atoi(w[1])
			copy(mem[off:], w[2])
		case "load":
			off, _ := strconv.Atoi(w[1])
			n, _ := strconv.Atoi(w[2])
			answer = string(mem[off : off+n])
		case "msync":
			err = unix.Msync(mem, unix.MS_SYNC)
		case "munmap":
			err = unix.Munmap(mem)
		case "close":
			err = f.Close()
		}
		if err != nil {
			answer = err.Error()
		}
		fmt.Println(answer)
	}
	return in.Err()
}

// appendProgram appends lines "<who> <n>" with O_APPEND.
func appendProgram(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0644)
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(args[2])
	for i := range n {
		if _, err := fmt.Fprintf(f, "%s %d\n", args[1], i); err != nil {
			return err
		}
	}
	return f.Close()
}

// signalProgram writes to a file, and prints how that ended when a signal came.
func signalProgram(args []string) error {
	runtime.LockOSThread()
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGUSR1)
	fd, err := syscall.Open(args[0], syscall.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fmt.Println(syscall.Gettid())
	_, err = syscall.Write(fd, []byte("x"))
	fmt.Println(err)
	syscall.Close(fd)
	return nil
}

// serveProgram mounts an empty volume until it is killed.
func serveProgram(args []string) error {
	s, err := Mount(Options{Mountpoint: args[0]}, newFakeVolume().session())
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	s.Wait()
	return nil
}

func atoi(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}
