package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"twofold/internal/errs"
)

// dialError says in a sentence why there is no connection to the server at host, which
// is HOST:PORT as the command line has it. err is remote.Dial's or admin.Dial's.
func dialError(host string, err error) error {
	var errno syscall.Errno
	var dns *net.DNSError
	var e *errs.Error
	switch {
	case errs.Is(err, errs.Access):
		return fmt.Errorf("%s: %w: set S3_ROOT_USER and S3_ROOT_PASSWORD as the server has them", host, plain(err))
	case errs.Is(err, errs.Unsupported):
		return plain(err) // names the host
	case errs.Is(err, errs.Canceled):
		return fmt.Errorf("no server answers at %s", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("no server answers at %s: there is no host of that name", host)
	case errors.As(err, &errno):
		return fmt.Errorf("no server answers at %s: %w", host, errno)
	case errs.Is(err, errs.Unavailable) && errors.As(err, &e) && e.Msg == "" && e.Err != nil:
		return fmt.Errorf("no server answers at %s: %w", host, e.Err)
	}
	return fmt.Errorf("%s: %w", host, plain(err))
}
