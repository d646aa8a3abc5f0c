package fusefs

import (
	"fmt"
	"os"
	"testing"
)

func TestFatalPending(t *testing.T) {
	for _, c := range []struct {
		pnd, shd, blk, ign, cgt uint64
		want                    bool
		why                     string
	}{
		{want: false, why: "none"},
		{pnd: 1 << 8, want: true, why: "SIGKILL"},
		{shd: 1 << 8, want: true, why: "SIGKILL to the process"},
		{shd: 1 << 2, want: true, why: "SIGQUIT, core dump"},
		{shd: 1 << 2, cgt: 1 << 2, want: false, why: "SIGQUIT, caught"},
		{shd: 1 << 2, blk: 1 << 2, want: false, why: "SIGQUIT, blocked"},
		{pnd: 1 << 14, ign: 1 << 14, want: false, why: "SIGTERM, ignored"},
		{pnd: 1 << 22, want: false, why: "SIGURG, ignored by default"},
		{pnd: 1 << 19, want: false, why: "SIGTSTP stops"},
	} {
		status := fmt.Sprintf("Name:\tx\nState:\tD (disk sleep)\nSigQ:\t0/95864\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\nCapInh:\t0000000000000000\n", c.pnd, c.shd, c.blk, c.ign, c.cgt)
		if got := fatalPending([]byte(status)); got != c.want {
			t.Errorf("%s: %v", c.why, got)
		}
	}
	if dying(uint32(os.Getpid())) {
		t.Error("this process is said to be ending")
	}
	if !dying(1 << 30) {
		t.Error("a thread that is not there is not gone")
	}
}
