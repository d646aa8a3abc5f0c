package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// monitorSlack is how much later than asked for the kernel may wake the thread of Go's
// runtime that looks for other threads in system calls.
//
// That monitor (sysmon in the runtime's proc.go) sleeps 20 µs at a time while the process
// is busy, and again 20 µs after each moment in which nothing was. With work that comes in
// pieces of a tenth of a millisecond, as fsyncs and requests of the kernel do, it ran all the
// time, for a seventh of the CPU time of server and mount. What it does in that time, giving
// the place of a thread in a system call to another one, is less urgent: there are spare
// places (spareProcessors).
const monitorSlack = 200 * time.Microsecond

// calmMonitor sets it, at a program's start, where the kernel lets it: without CAP_SYS_NICE
// a thread may change its own slack only (/proc/pid/timerslack_ns in proc(5), PR_SET_TIMERSLACK
// in prctl(2)), and no Go code runs in that one. Then everything is as it was, which is no
// error. The few threads that the monitor itself makes inherit it.
func calmMonitor() {
	if id, err := monitorThread(); err == nil {
		_ = os.WriteFile(slackFile(id), strconv.AppendInt(nil, int64(monitorSlack), 10), 0)
	}
}

// slackFile has a thread's timer slack in nanoseconds. Threads have it, although they are
// not listed in /proc.
func slackFile(thread int) string { return fmt.Sprintf("/proc/%d/timerslack_ns", thread) }

// monitorThread is the thread of the runtime's monitor: the one that was made next after
// the first, before any package's code ran. Where ids have begun anew at 1 in between it is
// another thread, whose timers are late then: by less than anybody here counts with.
func monitorThread() (int, error) {
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	var ids []int
	for _, e := range list {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	i := slices.Index(ids, os.Getpid())
	return ids[(i+1)%len(ids)], nil
}
