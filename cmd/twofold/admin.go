package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"twofold/admin"
	"twofold/cluster/info"
	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

// exitDegraded is `twofold admin info`'s status for a store that answers and has a problem.
const exitDegraded = 3

// adminInfoFlags are the command line of `twofold admin info`.
type adminInfoFlags struct {
	endpoints []string
	json      bool
	all       bool
	credentialFlags
}

func adminCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "admin",
		Short: "Ask a running store how it is",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q\nSee: twofold admin --help", "admin "+args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(adminInfoCommand())
	return c
}

func adminInfoCommand() *cobra.Command {
	f := &adminInfoFlags{}
	c := &cobra.Command{
		Use:   "info [flags]",
		Short: "Show nodes, drives, sets, metadata, capacity and mounts, and what is wrong",
		Long: `Show how a store is: in the first line whether anything is wrong, and then its nodes,
metadata replicas, erasure sets and what they bear now, drives, capacity, and mounts.

Any node will do; of several endpoints the first that answers is asked. What is told is
what the node that leads sees. Where none leads, the node that is asked tells what it
knows itself, and says so.

Needs the server's credentials: S3_ROOT_USER and S3_ROOT_PASSWORD in the environment,
or a file of such lines (--credentials).

Exit status: 0 nothing is wrong; 1 the store could not be asked; 2 the command line or
the environment is wrong; 3 something is wrong, as the first line says.`,
		Example: "  twofold admin info\n  twofold admin info --endpoint http://node1:9000 --endpoint http://node2:9000\n  twofold admin info --json | jq -r .status",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runAdminInfo(f, c.OutOrStdout()) },
	}
	c.Flags().StringArrayVar(&f.endpoints, "endpoint", []string{defaultSource}, "`URL` of a server; several times: the first that answers")
	c.Flags().BoolVar(&f.json, "json", false, "print JSON (docs/operations.md has the names)")
	c.Flags().BoolVar(&f.all, "all", false, "list each set and drive, also where there are many and nothing is wrong with them")
	f.credentialFlags.add(c.Flags())
	return c
}

func runAdminInfo(f *adminInfoFlags, out io.Writer) error {
	var hosts []string
	for _, e := range f.endpoints {
		src, err := parseSource(e)
		if err != nil || src.bucket != "" {
			return usage("--endpoint %s: it looks like http://HOST:PORT", e)
		}
		hosts = append(hosts, src.hosts()...)
	}
	secret, err := f.secret()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	in, err := askInfo(ctx, hosts, secret)
	if err != nil {
		return err
	}
	if f.json {
		in.Fill()
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(in)
	} else {
		_, err = io.WriteString(out, infoText(in, f.all))
	}
	if err == nil && in.Status != info.OK {
		err = statusError{errors.New(""), exitDegraded}
	}
	return err
}

// infoTimeout is how long a node may take to answer: it waits for an election, and for
// nodes and drives that hang.
const infoTimeout = 20 * time.Second

// askInfo asks one host after the other. An answer of a node that finds no leading one is
// taken where there is no better.
func askInfo(ctx context.Context, hosts []string, secret rpc.Secret) (*info.Info, error) {
	var alone *info.Info
	var why []string
	for _, host := range hosts {
		in, err := askOne(ctx, host, secret)
		switch {
		case err != nil:
			why = append(why, err.Error())
		case in.Complete:
			return in, nil
		case alone == nil || in.Store != "" && alone.Store == "":
			alone = in
		}
	}
	if alone != nil {
		return alone, nil
	}
	return nil, errors.New(strings.Join(why, "\ntwofold: "))
}

func askOne(ctx context.Context, host string, secret rpc.Secret) (*info.Info, error) {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	client, err := admin.Dial(dial, host, secret)
	if err != nil {
		return nil, dialError(host, err)
	}
	defer client.Close()
	ctx, cancel = context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	in, err := client.Info(ctx)
	switch {
	case errs.Is(err, errs.Unsupported):
		return nil, fmt.Errorf("%s runs a version that does not answer this", host)
	case errs.Is(err, errs.Canceled):
		return nil, fmt.Errorf("%s did not answer within %v", host, infoTimeout)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", host, plain(err))
	}
	return in, nil
}
