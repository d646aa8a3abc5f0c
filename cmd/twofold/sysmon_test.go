package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCalmMonitor: the runtime's monitor, which is not the first thread, may wake late.
func TestCalmMonitor(t *testing.T) {
	id, err := monitorThread()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(slackFile(id))
	if err != nil {
		t.Skip(err)
	}
	if err := os.WriteFile(slackFile(id), before, 0); err != nil {
		t.Skip("no CAP_SYS_NICE:", err)
	}
	defer os.WriteFile(slackFile(id), before, 0)
	calmMonitor()
	var calm []string
	tasks, _ := filepath.Glob("/proc/self/task/*")
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + filepath.Base(task) + "/timerslack_ns")
		if err != nil {
			continue // a thread that has ended
		}
		if n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); n == int64(monitorSlack) {
			calm = append(calm, filepath.Base(task))
		}
	}
	if len(calm) == 0 || slices.Contains(calm, fmt.Sprint(os.Getpid())) {
		t.Errorf("threads %v may wake late", calm)
	}
}
