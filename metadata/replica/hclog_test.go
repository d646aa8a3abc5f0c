package replica

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// At the default level the library's errors are there, but not those about a peer: while
// a drive is missing they come several times a second, as long as it is.
func TestRaftLogIsQuietAboutPeers(t *testing.T) {
	var out bytes.Buffer
	for level, want := range map[slog.Level]string{
		slog.LevelInfo:  "failed to take snapshot",
		slog.LevelDebug: "failed to take snapshot|failed to heartbeat to|failed to appendEntries to|failed to make requestVote RPC|failed to get log|entering leader state",
	} {
		out.Reset()
		l := newRaftLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))).With("replica", "d1")
		gone := errors.New("the replica can't be reached")
		l.Error("failed to take snapshot", "error", gone)
		l.Error("failed to heartbeat to", "peer", raft.ServerAddress("d2"), "error", gone)
		l.Error("failed to appendEntries to", "peer", raft.Server{ID: "d2"}, "error", gone)
		l.Error("failed to make requestVote RPC", "target", raft.Server{ID: "d2"}, "error", gone)
		l.Error("failed to get log", "index", uint64(1), "error", raft.ErrLogNotFound)
		l.Info("entering leader state", "leader", raft.Server{ID: "d1"})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		words := strings.Split(want, "|")
		if len(lines) != len(words) {
			t.Errorf("%v:\n%s", level, out.String())
			continue
		}
		for i, w := range words {
			if !strings.Contains(lines[i], "raft: "+w) || !strings.Contains(lines[i], "replica=d1") {
				t.Errorf("%v: %q, want %q", level, lines[i], w)
			}
		}
	}
}
