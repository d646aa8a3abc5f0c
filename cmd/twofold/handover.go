package main

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"twofold/internal/flock"
)

// What one worker leaves to the next is held by the supervisor: a worker that is
// killed while a thread of it waits inside a file system that hangs is not gone, and
// keeps its descriptors, for as long as that takes. So the supervisor has the socket
// that listens, and the box with the drives' locks (package flock), and passes both
// to every worker.

// workerEnv marks the worker's environment, crashEnv that of a worker whose
// predecessor did not end in order.
const (
	workerEnv = "TWOFOLD_WORKER"
	crashEnv  = "TWOFOLD_AFTER_CRASH"
)

// A worker's descriptors behind the standard ones, in the order of exec.Cmd.ExtraFiles.
const (
	readyFD  = 3 + iota // it writes the address when it serves
	aliveFD             // it writes a byte every beatEvery
	listenFD            // the socket to accept from
	boxInFD             // the box with the drives' locks
	boxOutFD
)

// backlog is how many connections wait for a worker; the kernel has its own limit,
// net.core.somaxconn.
const backlog = 4096

// beatEvery is the time between a worker's signs of life.
const beatEvery = time.Second

// legacy is what the supervisor holds for its workers.
type legacy struct {
	listener *os.File
	box      *flock.Box
}

// newLegacy begins to listen at the address, host:port. Requests wait, up to the
// kernel's backlog, while there is no worker.
func newLegacy(address string) (*legacy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, usage("can't listen on %s: %w. Choose another with --address HOST:PORT", address, err)
	}
	defer l.Close() // not the socket, of which the file is another descriptor
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	box, err := flock.NewBox()
	if err != nil {
		return nil, err
	}
	return &legacy{listener: f, box: box}, nil
}

// files are a worker's from listenFD on. The socket listens, also where a worker had
// refused and then did not end in order.
func (l *legacy) files() []*os.File {
	fd := int(l.listener.Fd())
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on == 0 {
		_ = unix.Listen(fd, backlog) // the worker hears of it in accept
	}
	in, out := l.box.Ends()
	return []*os.File{l.listener, in, out}
}

// close gives the address back, also where a worker that can't die has the socket.
func (l *legacy) close() {
	refuse(l.listener)
	l.listener.Close()
}

// refuse ends the listening of a socket for every process that has it: shutdown(2) of
// a listening TCP socket frees the port, close(2) only when it is the last.
func refuse(listener *os.File) { _ = unix.Shutdown(int(listener.Fd()), unix.SHUT_RDWR) }

// inheritance is the worker's side of it.
type inheritance struct {
	ready      *os.File
	socket     *os.File // the listener's
	listener   net.Listener
	locks      *flock.Keeper
	afterCrash bool
}

// inherit takes what the supervisor passed, and begins to give signs of life.
func inherit() (*inheritance, error) {
	file := func(fd int, name string) *os.File {
		syscall.CloseOnExec(fd)
		return os.NewFile(uintptr(fd), name)
	}
	in := &inheritance{ready: file(readyFD, "ready"), socket: file(listenFD, "listener"), afterCrash: os.Getenv(crashEnv) != ""}
	go beat(file(aliveFD, "alive"))
	var err error
	if in.listener, err = net.FileListener(in.socket); err != nil {
		return nil, errors.Join(errors.New(workerEnv+" is for the supervisor to set"), err)
	}
	in.locks, err = flock.NewKeeper(flock.BoxOf(file(boxInFD, "box"), file(boxOutFD, "box")))
	return in, err
}

// beat writes a byte now and then. A process in which a thread waits for a page of a
// mapped file, of a drive that hangs, is at a stop as soon as Go wants to stop the
// world for a moment: for that thread does not stop.
func beat(alive *os.File) {
	for {
		if _, err := alive.Write([]byte{'.'}); err != nil {
			return // the supervisor is gone, and we with it
		}
		time.Sleep(beatEvery)
	}
}

// tellReady writes the address that is served to the supervisor.
func (in *inheritance) tellReady(address string) {
	in.ready.WriteString(address)
	in.ready.Close()
}
