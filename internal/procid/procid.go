// Package procid names a process so that another one on the same machine can tell
// whether it still runs: a mount that was killed need not be waited for.
package procid

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Self is this process: "pid.starttime@boot-id/pid-namespace@machine-id". The start
// time (clock ticks since boot, proc(5)) tells a reused pid apart; the boot id tells
// machines and reboots apart, and the machine id (machine-id(5), may be empty) tells
// a reboot from another machine.
func Self() string {
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d.%s@%s@%s", pid, start, bootID(), machineID())
}

// Dead reports whether the process that id names certainly runs no more. A name of
// another machine, or one that can't be read, is not known to be dead. A machine is
// known by machine-id(5), which has to be its own.
func Dead(id string) bool {
	if _, boot, machine := split(id); boot != "" {
		// Nothing survives a reboot of its machine.
		kernel, _, _ := strings.Cut(boot, "/")
		now, _, _ := strings.Cut(bootID(), "/")
		if machine != "" && machine == machineID() && kernel != "" && now != "" && kernel != now {
			return true
		}
	}
	return Gone(id)
}

func split(id string) (proc, boot, machine string) {
	proc, rest, _ := strings.Cut(id, "@")
	boot, machine, _ = strings.Cut(rest, "@")
	return proc, boot, machine
}

// Gone is Dead of what was started since this machine was: of other machines, and of before, it
// knows nothing.
func Gone(id string) bool {
	proc, boot, _ := split(id)
	if here := bootID(); boot == "" || boot != here {
		return false
	}
	p, start, ok := strings.Cut(proc, ".")
	pid, err := strconv.Atoi(p)
	if !ok || err != nil || pid <= 0 {
		return false
	}
	now, err := startTime(pid)
	if os.IsNotExist(err) {
		return true
	}
	return err == nil && now != start
}

// bootID identifies this boot of this kernel, random(4). Containers share it, but
// not process ids: the pid namespace is part of the name.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b)) + "/" + ns
}

// machineID is the installation's, or empty where there is none.
func machineID() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// startTime is field 22 of /proc/pid/stat, which is read behind the command's name:
// that may hold spaces and parentheses. A zombie counts as gone: it writes nothing.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	s := string(b)
	i := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[i+1:])
	if i < 0 || len(f) < 20 {
		return "", fmt.Errorf("procid: unexpected /proc/%d/stat", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", os.ErrNotExist
	}
	return f[19], nil
}
