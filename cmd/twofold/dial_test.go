package main

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"twofold/internal/errs"
)

// What people read has no names of functions in it, and says what to do next.
func TestDialError(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	unknown := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "stroe", IsNotFound: true}}
	for want, err := range map[string]error{
		"no server answers at store:9000: connection refused":                             errs.E("rpc.Dial", errs.Unavailable, refused),
		"no server answers at store:9000: there is no host of that name":                  errs.E("rpc.Dial", errs.Unavailable, unknown),
		"no server answers at store:9000: EOF":                                            errs.E("rpc.Dial", errs.Unavailable, io.EOF),
		"no server answers at store:9000":                                                 errs.E("rpc.Dial", errs.Canceled, nil),
		"store:9000 is not a twofold server":                                              errs.Newf("rpc.Dial", errs.Unsupported, "store:9000 is not a twofold server"),
		"store:9000: other: set S3_ROOT_USER and S3_ROOT_PASSWORD as the server has them": errs.Newf("rpc.Dial", errs.Access, "other"),
		"store:9000: something else":                                                      errors.New("something else"),
	} {
		if got := dialError("store:9000", err).Error(); got != want {
			t.Errorf("%v:\ngot  %s\nwant %s", err, got, want)
		}
	}
}
