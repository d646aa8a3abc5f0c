package replica

import (
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// raftLog passes the raft library's log on to slog: its errors as Info, everything
// else as Debug. What it can't do with a peer is Debug too: it says so at each try, and
// the group says once that a replica is out, hangs or has joined.
type raftLog struct {
	hclog.Logger // a null logger, for the methods that nobody calls
	log          *slog.Logger
}

func newRaftLog(log *slog.Logger) hclog.Logger {
	return &raftLog{Logger: hclog.NewNullLogger(), log: log}
}

func (l *raftLog) say(level slog.Level, msg string, args []any) {
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = f[1:]
		}
	}
	l.log.Log(context.Background(), level, "raft: "+msg, args...)
}

// Log implements hclog.Logger.
func (l *raftLog) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Error:
		l.Error(msg, args...)
	case hclog.Warn:
		l.Warn(msg, args...)
	case hclog.Info:
		l.Info(msg, args...)
	}
}

func (l *raftLog) Trace(string, ...any)          {}
func (l *raftLog) Debug(string, ...any)          {}
func (l *raftLog) Info(msg string, args ...any)  { l.say(slog.LevelDebug, msg, args) }
func (l *raftLog) Warn(msg string, args ...any)  { l.say(slog.LevelDebug, msg, args) }
func (l *raftLog) Error(msg string, args ...any) { l.say(errorLevel(args), msg, args) }

func errorLevel(args []any) slog.Level {
	for _, a := range args {
		switch a {
		case "peer", "target", raft.ErrLogNotFound: // the last: of a peer that needs a snapshot first
			return slog.LevelDebug
		}
	}
	return slog.LevelInfo
}

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{Logger: l.Logger, log: l.log.With(args...)}
}
func (l *raftLog) Named(string) hclog.Logger      { return l }
func (l *raftLog) ResetNamed(string) hclog.Logger { return l }
