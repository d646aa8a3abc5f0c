package kv

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// badgerLog passes Badger's warnings and errors on. Its informational chatter
// (every flush and compaction) goes to debug.
type badgerLog struct {
	log   *slog.Logger
	muted *atomic.Bool
}

var _ badger.Logger = badgerLog{}

func (l badgerLog) say(level slog.Level, format string, args []any) {
	if !l.muted.Load() && l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (l badgerLog) Errorf(f string, a ...any)   { l.say(slog.LevelError, f, a) }
func (l badgerLog) Warningf(f string, a ...any) { l.say(warning(f), f, a) }
func (l badgerLog) Infof(f string, a ...any)    { l.say(slog.LevelDebug, f, a) }

// warning is the level of what Badger warns of. That its cache could be larger it
// says every minute: the cache is small on purpose.
func warning(format string) slog.Level {
	if strings.HasPrefix(format, "%s might be too small") || strings.HasPrefix(format, "Cache life expectancy") {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// Debugf drops: Badger calls it for every write.
func (l badgerLog) Debugf(string, ...any) {}
