// Command powerfs mounts file systems that lose power on demand, see package
// twofold/test/powerfs.
//
//	powerfs -control SOCKET -mount DIR=BACKING [-mount DIR=BACKING ...]
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"twofold/test/powerfs/internal/serve"
)

// mounts is the -mount flag.
type mounts []serve.Mount

var _ flag.Value = (*mounts)(nil)

func (m *mounts) String() string { return fmt.Sprint(*m) }

func (m *mounts) Set(s string) error {
	dir, backing, ok := strings.Cut(s, "=")
	if !ok || dir == "" || backing == "" {
		return errors.New("want DIR=BACKING")
	}
	*m = append(*m, serve.Mount{Dir: dir, Backing: backing})
	return nil
}

func main() {
	var cfg serve.Config
	flag.StringVar(&cfg.Control, "control", "", "path of the control `socket` to make")
	flag.Var((*mounts)(&cfg.Mounts), "mount", "`DIR=BACKING`: mount at DIR what is kept in BACKING; once for each drive")
	flag.BoolVar(&cfg.WriteThrough, "write-through", false, "no write-back cache in the kernel")
	flag.BoolVar(&cfg.Disk.EntryWithFsync, "entry-with-fsync", false, "fsync of a file makes its directory entries durable too")
	flag.BoolVar(&cfg.Disk.Ordered, "ordered", false, "directory operations survive in order, as with a journal")
	stdin := flag.Bool("exit-with-stdin", false, "unmount and exit when standard input ends")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if cfg.Control == "" || len(cfg.Mounts) == 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	stop := make(chan struct{})
	if *stdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			close(stop)
		}()
	}
	if err := serve.Run(cfg, log, os.Stdout, stop); err != nil {
		log.Error("powerfs", "err", err)
		os.Exit(1)
	}
}
