package fusefs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// lockers remembers who may have record locks of an inode, and through which open
// files. The kernel does not say whether an owner is a process (POSIX locks, which go
// when it closes any descriptor of the inode: FLUSH names it) or an open file (OFD
// locks, which go with it: RELEASE does not name it). But what was only ever seen
// through one open file is that open file, or a process that has flushed before the
// file could be released.
type lockers struct {
	mu     sync.Mutex
	owners map[uint64][]uint64 // open files by owner; nil while there are none
}

func (k *lockers) note(owner, fh uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.owners == nil {
		k.owners = make(map[uint64][]uint64)
	}
	if !slices.Contains(k.owners[owner], fh) {
		k.owners[owner] = append(k.owners[owner], fh)
	}
}

// forget drops an owner, and reports whether it was known.
func (k *lockers) forget(owner uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.owners[owner]
	delete(k.owners, owner)
	return ok
}

// only takes out those who were seen through this open file and no other one.
func (k *lockers) only(fh uint64) (owners []uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for o, fhs := range k.owners {
		i := slices.Index(fhs, fh)
		switch {
		case i < 0:
		case len(fhs) == 1:
			owners = append(owners, o)
			delete(k.owners, o)
		default:
			k.owners[o] = slices.Delete(fhs, i, i+1)
		}
	}
	return owners
}

// several tells that an owner came through more than one open file: it is a process.
func (k *lockers) several(owner uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.owners[owner]) > 1
}

// processOwners are lock owners that are known to be processes: they have closed a file.
type processOwners struct {
	mu    sync.Mutex
	known map[uint64]struct{}
}

const maxProcessOwners = 4096

func (p *processOwners) init() { p.known = make(map[uint64]struct{}) }

func (p *processOwners) note(owner uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxProcessOwners {
		clear(p.known)
	}
	p.known[owner] = struct{}{}
}

func (p *processOwners) has(owner uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.known[owner]
	return ok
}

// isProcess tells whether the owner of a request that may wait is a process, as deadlocks
// are found for those alone (fcntl(2)). Where neither what it closed nor what it opened
// says so, the system call that it is in does, if we may look (proc(5),
// /proc/pid/syscall). A false no costs the EDEADLK, a false yes would break a program.
func (f *fsys) isProcess(n *node, in *fuse.LkIn) bool {
	if in.LkFlags&fuse.LK_FLOCK != 0 {
		return false
	}
	return f.owners.has(in.Owner) || n.lockers.several(in.Owner) || fcntlCommand(in.Caller.Pid) == unix.F_SETLKW
}

// fcntlCommand is the command of the fcntl(2) that a thread is in; -1 if it can't be
// known.
func fcntlCommand(tid uint32) int {
	for pause := 50 * time.Microsecond; pause < 2*time.Millisecond; pause *= 2 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
		if err != nil {
			return -1
		}
		fields := bytes.Fields(b)
		if len(fields) == 1 && string(fields[0]) == "running" {
			time.Sleep(pause) // it goes to sleep just now
			continue
		}
		if len(fields) < 3 || string(fields[0]) != strconv.Itoa(unix.SYS_FCNTL) {
			return -1
		}
		cmd, err := strconv.ParseUint(string(fields[2]), 0, 32)
		if err != nil {
			return -1
		}
		return int(cmd)
	}
	return -1
}
