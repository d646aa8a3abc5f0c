package fusefs

import (
	"context"
	"log/slog"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold/internal/errs"
	"twofold/volume/api"
)

// Server is a mount that is being served.
type Server struct {
	f          *fsys
	fuse       *fuse.Server
	mountpoint string
	log        *slog.Logger
	over       chan struct{} // closed when everything is given back
}

// settleTime bounds what a mount that is gone still tries to give back.
const settleTime = 30 * time.Second

// Holder is what the session behind the mount's api.Files calls back. It works from
// the moment Mount returns until Wait does.
func (s *Server) Holder() api.Holder {
	if s.f.behind != nil {
		return s.f.behind.Holder(holder{s.f})
	}
	return holder{s.f}
}

// Mountpoint is where it is mounted: absolute, without symbolic links.
func (s *Server) Mountpoint() string { return s.mountpoint }

// Sync commits everything that was written so far and waits for it. The first
// error is returned; the others are in the log and with their files.
func (s *Server) Sync(ctx context.Context) error { return s.f.flushAll(ctx) }

// Unmount commits everything and unmounts. It fails with errs.Busy, and says who
// has files open, while the mount is in use; lazy takes it out of the tree anyway
// and serves those who use it until they are done. Wait tells when everything is
// over. A mount that is gone already is no error.
func (s *Server) Unmount(ctx context.Context, lazy bool) error {
	if err := s.f.flushAll(ctx); errs.Is(err, errs.Canceled) {
		return errs.Newf("fusefs.Unmount", errs.Busy, "%s: what was written could not be committed in time: %v", s.mountpoint, err)
	}
	select {
	case <-s.over:
		return nil
	default:
	}
	// Closed files are released a moment after close(2) returns.
	for pause := firstPause; ; pause *= 2 {
		err := unmount(s.mountpoint, lazy)
		if !errs.Is(err, errs.Busy) || pause > 200*time.Millisecond || !sleep(ctx, pause) {
			return err
		}
	}
}

// Wait returns when the mount is unmounted, by whomever, and its leases and open
// files are given back.
func (s *Server) Wait() { <-s.over }

func (s *Server) serve() {
	defer close(s.over)
	s.fuse.Serve()
	last := s.f.cache.drop()
	ctx, stop := context.WithTimeout(context.Background(), settleTime)
	defer stop()
	if err := s.f.flushAll(ctx); err != nil {
		s.log.Error("written data is lost with the mount", "mountpoint", s.mountpoint, "err", err)
	}
	// The kernel does not send the last releases when it is unmounted.
	for _, file := range s.f.handles.rest() {
		file.close(ctx)
		s.f.unref(file.n)
	}
	if err := s.f.closeBehind(ctx); err != nil {
		s.log.Error("changes are lost with the mount", "mountpoint", s.mountpoint, "err", err)
	}
	s.outlive(last)
	s.f.stop()
}

// outlive waits until last, when the kernel has forgotten all that it was told to cache,
// where its connection was aborted and it still shows the mount: nobody is to change any of
// that earlier, which the end of the session would let them.
func (s *Server) outlive(last time.Time) {
	if d := time.Until(last); d > 0 && IsMounted(s.mountpoint) {
		time.Sleep(d)
	}
}
