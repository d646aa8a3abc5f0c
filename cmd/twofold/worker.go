package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"twofold/admin"
	"twofold/cluster/node"
	"twofold/cluster/rpc"
	"twofold/internal/config"
	"twofold/internal/errs"
	"twofold/s3"
	"twofold/s3/sigv4"
	"twofold/volume/remote"
)

// drainTimeout is how long requests in flight may take after a signal to stop.
const drainTimeout = 30 * time.Second

// runWorker is the server: it opens the store, serves until a signal, and closes it.
func runWorker(ctx context.Context, f *serverFlags, args []string) error {
	cfg, layout, err := f.check(args)
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
	warn(log, cfg, in.listener.Addr().String())

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	n, err := node.Open(ctx, node.Options{
		Layout: layout, Logger: log, ScrubCycle: f.scrub, Locks: in.locks, AfterCrash: in.afterCrash,
		Say: func(text string) { fmt.Fprint(os.Stderr, text) },
	})
	if errs.Is(err, errs.Invalid) {
		return usage("%w", plain(err)) // the drives are not what the command line says
	}
	if err != nil {
		return plain(err)
	}
	err = serve(ctx, f, cfg, log, n, in)
	closing, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if cerr := n.Close(closing); err == nil {
		err = cerr
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serve answers requests until ctx ends, and drains them.
func serve(ctx context.Context, f *serverFlags, cfg config.Config, log *slog.Logger, n *node.Node, in *inheritance) error {
	secret, err := rpc.NewSecret(cfg.Root.AccessKey, cfg.Root.SecretKey.Reveal())
	if err != nil {
		return err
	}
	mounts := remote.NewServer(n.Mounts(), log)
	operators := admin.NewServer(n.Volume(), log)
	calls, err := rpc.NewServer(rpc.Config{Secret: secret, Logger: log}, func(c *rpc.Conn) (rpc.Handler, error) {
		if c.PeerRole() == rpc.RoleAdmin {
			return operators.Accept(c)
		}
		return mounts.Accept(c)
	})
	if err != nil {
		return err
	}
	front := s3.New(s3.Config{
		Volume:      n.Volume(),
		Credentials: rootCredentials{cfg.Root},
		Region:      cfg.Region, Domains: cfg.Domains, Logger: log,
	})
	srv := s3.HTTPServer(calls.Wrap(front), log)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(in.listener) }()
	address := dialable(in.listener.Addr())
	log.Info("serving", "address", address, "buckets", "http://"+address+"/")
	if f.hints && !in.afterCrash { // they were printed before the crash
		mount := f.mount
		if abs, err := filepath.Abs(mount); err == nil && mount != "" {
			mount = abs
		}
		fmt.Fprint(os.Stderr, hintText(cfg, address, mount))
	}
	in.tellReady("http://" + address)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("draining requests")
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	srv.RegisterOnShutdown(func() { refuse(in.socket) }) // the supervisor's descriptor too
	err = srv.Shutdown(drain)
	mounts.Close(drain)
	calls.Close()
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests that did not end in time were cut off", "after", drainTimeout)
		return srv.Close()
	}
	return err
}

// rootCredentials are the only ones until there are users.
type rootCredentials struct{ config.Credentials }

var _ sigv4.Credentials = rootCredentials{}

// Lookup implements sigv4.Credentials.
func (r rootCredentials) Lookup(accessKey string) (string, bool) {
	return r.SecretKey.Reveal(), accessKey == r.AccessKey
}

// dialable is an address that this machine reaches the listener by.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	if t.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
	}
	return t.String()
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
