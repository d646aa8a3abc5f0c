package node

import (
	"testing"
	"time"
)

// TestWaitFor: a node that is waited for is named once, by its URL.
func TestWaitFor(t *testing.T) {
	n := &Node{opts: *twoNodes(t, 0)}
	for why, want := range map[string]string{
		"127.0.0.1:9002: connection refused":         "for http://127.0.0.1:9002: connection refused",
		"127.0.0.1:9002 has other root credentials":  "for http://127.0.0.1:9002: it has other root credentials",
		"the clock of 127.0.0.1:9002 is 20m0s ahead": "for http://127.0.0.1:9002: the clock of 127.0.0.1:9002 is 20m0s ahead",
		"it is starting": "for http://127.0.0.1:9002: it is starting",
		"127.0.0.1:9001 says that this node is a copy": "for http://127.0.0.1:9002: 127.0.0.1:9001 says that this node is a copy",
	} {
		if got := n.waitFor(1, why); got != want {
			t.Errorf("%q: %q, want %q", why, got, want)
		}
	}
}

// TestNobodyLeadsIsSaidOnce: not at a change of leader, and once where it lasts.
func TestNobodyLeadsIsSaidOnce(t *testing.T) {
	var n nobodys
	if n.lasts() {
		t.Error("said at once")
	}
	n.since = n.since.Add(-2 * leaderless)
	if !n.lasts() || n.lasts() {
		t.Error("not said, or twice")
	}
}

// TestComingAndGoingIsNoNews: a text is said once, and again where it stays.
func TestComingAndGoingIsNoNews(t *testing.T) {
	var s said
	now := time.Now()
	times := 0
	for range 100 { // 20 s
		for _, text := range []string{"a", "b"} {
			if s.isNews(text, now) {
				times++
			}
			now = now.Add(100 * time.Millisecond)
		}
	}
	if times != 2 {
		t.Errorf("said %d times", times)
	}
	if s.isNews("a", now) || s.isNews("a", now.Add(sayAfter-1)) || !s.isNews("a", now.Add(sayAfter)) || s.isNews("a", now.Add(sayAfter)) {
		t.Error("what stays is not said once")
	}
	if !s.isNews("c", now.Add(sayAfter)) {
		t.Error("what is new is not said at once")
	}
}
