// Package serve mounts disks that can lose power, injects faults into them, and
// obeys a control socket. One process serves all drives of a test, so that one
// power cut hits them at the same instant.
package serve

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"twofold/test/powerfs/internal/disk"
)

// Mount says where a drive is mounted and where it keeps its state.
type Mount struct {
	Dir     string
	Backing string
}

// Config is the command line.
type Config struct {
	Control      string // path of the control socket, made here
	Mounts       []Mount
	WriteThrough bool // no write-back cache in the kernel: each write(2) is a WRITE
	Disk         disk.Options
}

// server is the process.
type server struct {
	cfg    Config
	log    *slog.Logger
	faults faults
	power  power
	mounts []*mount
	ended  chan error // the end of serving, once
}

// maxWrite is the largest WRITE, in bytes.
const maxWrite = 1 << 20

// Run mounts everything, writes a line to ready, and serves until a power cut or
// a stop by the control socket, or until stop is closed: then it unmounts and
// drops the state, for whoever started it is gone.
//
// After a power cut the mounts are left behind dead (ENOTCONN), as a drive that is
// gone would be: were they unmounted, a process that goes on would write into the
// directories below.
func Run(cfg Config, log *slog.Logger, ready io.Writer, stop <-chan struct{}) error {
	s := &server{cfg: cfg, log: log, ended: make(chan error, 1)}
	s.power.dead = make(chan struct{})
	l, err := net.Listen("unix", cfg.Control)
	if err != nil {
		return err
	}
	defer l.Close()
	for n, mt := range cfg.Mounts {
		if err := s.mount(n, mt); err != nil {
			s.unmount()
			return fmt.Errorf("mount %s: %w", mt.Dir, err)
		}
	}
	go s.accept(l)
	if _, err := fmt.Fprintln(ready, "ready"); err != nil {
		s.unmount()
		return err
	}
	select {
	case err := <-s.ended:
		return err
	case <-stop:
		s.power.cut()
		s.unmount()
		return nil
	}
}

func (s *server) mount(n int, mt Mount) error {
	opts := s.cfg.Disk
	opts.Index = n
	d, err := disk.Open(mt.Backing, opts)
	if err != nil {
		return err
	}
	m := newMount(d, n, &s.faults, &s.power)
	mo := &fuse.MountOptions{
		FsName: "powerfs", Name: "powerfs",
		Options:                  []string{"default_permissions"},
		AllowOther:               os.Geteuid() == 0,
		DirectMount:              true,
		MaxWrite:                 maxWrite,
		MaxBackground:            64,
		DisableReadDirPlus:       true,
		DisableXAttrs:            true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_WRITEBACK_CACHE,
	}
	if s.cfg.WriteThrough {
		mo.ExtraCapabilities = 0
	}
	fs, err := fuse.NewServer(m, mt.Dir, mo)
	if err != nil {
		return err
	}
	go fs.Serve()
	s.mounts = append(s.mounts, m)
	return fs.WaitMount()
}

// unmount detaches all mounts, whoever uses them.
func (s *server) unmount() {
	for n := range s.mounts {
		if err := Detach(s.cfg.Mounts[n].Dir); err != nil {
			s.log.Warn("unmount", "dir", s.cfg.Mounts[n].Dir, "err", err)
		}
	}
}

// save is an orderly end: everything is written back and at rest when it returns.
func (s *server) save() ([]string, error) {
	for _, mt := range s.cfg.Mounts {
		if err := syscall.Unmount(mt.Dir, 0); err != nil && os.Geteuid() == 0 {
			return nil, fmt.Errorf("unmount %s: %w", mt.Dir, err)
		} else if err != nil {
			if err := fusermount("-u", mt.Dir); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range s.mounts {
		m.server.Wait()
	}
	s.power.cut()
	return s.each((*disk.Disk).Save)
}

// each applies fn to all disks and returns what they return.
func (s *server) each(fn func(*disk.Disk) (string, error)) ([]string, error) {
	var dirs []string
	for _, m := range s.mounts {
		dir, err := fn(m.disk)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}
