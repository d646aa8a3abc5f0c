package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"twofold/cluster/node"
	"twofold/cluster/rpc"
	"twofold/internal/config"
	"twofold/internal/errs"
)

// drainTimeout is how long requests in flight may take after a signal to stop.
const drainTimeout = 30 * time.Second

// runWorker is the server: it opens the store, serves until a signal, and closes it.
func runWorker(ctx context.Context, f *serverFlags, args []string) error {
	set, err := f.check(args)
	if err != nil {
		return err
	}
	limitMemory()
	moreProcessors()
	calmMonitor()
	log, err := f.logger(os.Stderr)
	if err != nil {
		return err
	}
	in, err := inherit()
	if err != nil {
		return err
	}
	warn(log, set.cfg, in.listener.Addr().String())
	secret, err := rpc.NewSecret(set.cfg.Root.AccessKey, set.cfg.Root.SecretKey.Reveal())
	if err != nil {
		return err
	}
	front, err := newFront(set.cfg, log, secret)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o := node.Options{
		Layout: set.topo.Layout, Logger: log, Program: version, ScrubCycle: f.scrub, Locks: in.locks, AfterCrash: in.afterCrash,
		Say: func(text string) { fmt.Fprint(os.Stderr, text) },
	}
	if set.topo.Distributed() {
		err = front.serveAmong(ctx, set, secret, args, o, f, in)
	} else {
		err = front.serveAlone(ctx, o, f, in)
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serveAlone serves a store whose drives are all here.
func (f *front) serveAlone(ctx context.Context, o node.Options, flags *serverFlags, in *inheritance) error {
	n, err := node.Open(ctx, o)
	if err != nil {
		return opening(err)
	}
	f.node.Store(n)
	f.Lead(n.Leading())
	err = f.serve(ctx, flags, in)
	closing, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if cerr := n.Close(closing); err == nil {
		err = cerr
	}
	return err
}

// opening is why a store could not be opened.
func opening(err error) error {
	if errs.Is(err, errs.Invalid) {
		return usage("%w", plain(err)) // the drives are not what the command line says
	}
	return plain(err)
}

// serve answers requests until ctx ends, and drains them.
func (f *front) serve(ctx context.Context, flags *serverFlags, in *inheritance) error {
	failed := make(chan error, 1)
	go func() { failed <- f.http.Serve(in.listener) }()
	f.tell(flags, in)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	return f.drain(in)
}

// warn prints what an operator must not miss.
func warn(log *slog.Logger, cfg config.Config, address string) {
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	if cfg.Root.Default {
		line := strings.Repeat("!", 78)
		fmt.Fprintf(os.Stderr, "%s\n  The credentials are the DEFAULT ones, minioadmin / minioadmin, that everybody\n  knows. Anyone who reaches %s can read and delete everything.\n  Set S3_ROOT_USER and S3_ROOT_PASSWORD.\n%s\n", line, address, line)
		log.Warn("default credentials are in use; set S3_ROOT_USER and S3_ROOT_PASSWORD")
	}
}
