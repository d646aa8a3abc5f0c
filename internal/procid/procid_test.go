package procid

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func TestSelfIsNotDead(t *testing.T) {
	if id := Self(); id == "" || Dead(id) {
		t.Fatalf("Self() = %q, Dead = %v", id, Dead(id))
	}
}

func TestUnknownIsNotDead(t *testing.T) {
	for _, id := range []string{"", "x", "1.2", "1.2@", "1.2@other-boot/pid:[1]", "-1.2@" + bootID(), "a.b@" + bootID()} {
		if Dead(id) {
			t.Errorf("Dead(%q)", id)
		}
	}
}

func TestReusedPidIsDead(t *testing.T) {
	_, rest, _ := strings.Cut(Self(), "@")
	p, _, _ := strings.Cut(Self(), ".")
	if !Dead(p + ".0@" + rest) {
		t.Error("a pid with another start time is another process")
	}
}

func TestExitedIsDead(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startTime(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	id := strconv.Itoa(c.Process.Pid) + "." + start + "@" + bootID()
	if Dead(id) {
		t.Fatal("a running process is not dead")
	}
	c.Process.Kill()
	// A zombie, which this still is before Wait, is as dead as can be.
	for !Dead(id) {
	}
	c.Wait()
	if !Dead(id) {
		t.Fatal("an exited process is dead")
	}
}

func TestRebootedIsDead(t *testing.T) {
	if machineID() == "" {
		t.Skip("this machine has no machine-id")
	}
	if !Dead("1.2@other-boot/pid:[1]@" + machineID()) {
		t.Error("a process of an earlier boot of this machine is dead")
	}
	if Dead("1.2@other-boot/pid:[1]@another-machine") {
		t.Error("a process of another machine is not known to be dead")
	}
}

func TestGoneKnowsThisBootAlone(t *testing.T) {
	if Gone(Self()) {
		t.Error("this process is gone")
	}
	_, rest, _ := strings.Cut(Self(), "@")
	p, _, _ := strings.Cut(Self(), ".")
	if !Gone(p + ".0@" + rest) {
		t.Error("a pid with another start time is another process")
	}
	if id := "1.2@other-boot/pid:[1]@" + machineID(); Gone(id) {
		t.Error("it may run on a machine that was made from the same image")
	}
}
