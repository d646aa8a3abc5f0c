package main

import (
	"errors"
	"io"
	"log/slog"

	"twofold/internal/errs"

	"github.com/spf13/pflag"
)

// logFlags choose how the log looks. The default is text for people (slog's
// key=value), which machines can parse as well; --log-format json for the rest.
type logFlags struct {
	level  string
	format string
}

func (l *logFlags) add(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	f.StringVar(&l.format, "log-format", "text", "`FORMAT`: text or json")
}

func (l *logFlags) args() []string {
	return []string{"--log-level", l.level, "--log-format", l.format}
}

func (l *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usage("--log-level %s: it is one of debug, info, warn, error", l.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usage("--log-format %s: it is one of text, json", l.format)
}

// plain takes the internal operation's name off an error that a person reads.
func plain(err error) error { return plainError{err} }

type plainError struct{ error }

func (p plainError) Unwrap() error { return p.error }

// Error is the sentence of the structured error, where it has one.
func (p plainError) Error() string {
	var e *errs.Error
	if errors.As(p.error, &e) && e.Msg != "" {
		if e.Err != nil {
			return e.Msg + ": " + e.Err.Error()
		}
		return e.Msg
	}
	return p.error.Error()
}
