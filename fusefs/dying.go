package fusefs

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// dying reports whether a thread has a signal pending that ends its process, or is gone.
// Where that can't be told (the kernel gives no id for a thread outside of the mount's
// pid namespace) it is assumed, so that no process becomes one that can't be killed.
//
// The kernel makes SIGKILL pending for each thread when a signal arrives that ends their
// process without a core dump (complete_signal in kernel/signal.c); those with one are
// told by what proc(5) says of what the process blocks, ignores and catches.
func dying(tid uint32) bool {
	if tid == 0 {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return err != nil || fatalPending(b)
}

// fatalPending reads the signal sets of /proc/<tid>/status.
func fatalPending(status []byte) bool {
	sets := map[string]uint64{}
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		name, value, ok := bytes.Cut(sc.Bytes(), []byte(":"))
		if !ok || !bytes.HasPrefix(name, []byte("S")) {
			continue
		}
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64); err == nil {
			sets[string(name)] = n
		}
	}
	pending := sets["SigPnd"] | sets["ShdPnd"]
	if pending&signals(syscall.SIGKILL) != 0 {
		return true
	}
	// By default these are ignored, or stop the process (signal(7)).
	harmless := signals(syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	return pending&^(sets["SigBlk"]|sets["SigIgn"]|sets["SigCgt"]|harmless) != 0
}

func signals(all ...syscall.Signal) (set uint64) {
	for _, s := range all {
		set |= 1 << (s - 1)
	}
	return set
}
