package peers

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"twofold/internal/errs"
)

// refusal is a difference between two nodes that only an operator can end. Its text is
// a sentence that names the node.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

// dialError tells what retrying may cure from what it won't.
func (l *link) dialError(err error) error {
	switch {
	case errs.Is(err, errs.Access):
		return &refusal{l.to.Address + " has other root credentials than this node (S3_ROOT_USER, S3_ROOT_PASSWORD): start all nodes with the same"}
	case errs.Is(err, errs.Unsupported):
		return &refusal{l.words(err)}
	}
	return err
}

// words says why a node is not up, beginning with its address.
func (l *link) words(err error) string {
	at := l.to.Address
	var r *refusal
	if errors.As(err, &r) {
		return r.why
	}
	if s := reason(err); strings.HasPrefix(s, at+" ") {
		return s
	}
	return at + ": " + reason(err)
}

// reason is an error in a few words: the innermost that a person can use.
func reason(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	var timeout interface{ Timeout() bool }
	var e *errs.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, errSilent):
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.As(err, &e):
		switch {
		case e.Msg != "" && e.Err != nil:
			return e.Msg + ": " + reason(e.Err)
		case e.Msg != "":
			return e.Msg
		case e.Err != nil:
			return reason(e.Err)
		}
		return e.Kind.String()
	}
	return err.Error()
}
