package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"twofold/bench"

	"github.com/spf13/cobra"
)

func benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure an S3 endpoint or a directory, or compare two",
		Long: `Run one workload against one or two targets and print rates and latencies. With
two, the runs are interleaved and the ratio of the first to the second is printed
with its smallest and largest value over the rounds.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(benchS3Command(), benchFSCommand())
	return c
}

func benchS3Command() *cobra.Command {
	var o bench.S3Options
	var rounds int
	var region string
	c := &cobra.Command{
		Use:   "s3 ENDPOINT [ENDPOINT]",
		Short: "Measure PUT, GET and LIST of S3 endpoints",
		Long: `Measure PUT, GET and LIST of one S3 endpoint, or compare two.

An ENDPOINT is http://HOST:PORT or NAME=http://ACCESS:SECRET@HOST:PORT; without
credentials those of S3_ROOT_USER and S3_ROOT_PASSWORD, or AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, or minioadmin. It makes the bucket and leaves in it what it
lists (under list/).`,
		Example: "  twofold bench s3 twofold=http://127.0.0.1:9000 peer=http://127.0.0.1:9100",
		Args:    oneOrTwo,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			var targets []bench.Target
			for _, a := range args {
				t, err := s3Target(ctx, a, region, o)
				if err != nil {
					return err
				}
				targets = append(targets, t)
			}
			return runBench(ctx, c, rounds, targets)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Bucket, "bucket", "twofold-bench", "`BUCKET` to work in")
	f.StringVar(&region, "region", "us-east-1", "`REGION` to sign for")
	f.IntVar(&rounds, "rounds", 3, "how often everything is done")
	f.IntVar(&o.SmallSize, "small", 4<<10, "`BYTES` of a small object")
	f.IntVar(&o.SmallCount, "small-count", 4000, "small objects a round")
	f.IntVar(&o.SmallClients, "small-clients", 32, "clients at once for small objects")
	f.IntVar(&o.LargeSize, "large", 8<<20, "`BYTES` of a large object")
	f.IntVar(&o.LargeCount, "large-count", 48, "large objects a round")
	f.IntVar(&o.LargeClients, "large-clients", 8, "clients at once for large objects")
	f.IntVar(&o.ListKeys, "list", 0, "`KEYS` to list; 0: don't")
	f.IntVar(&o.ListClients, "list-clients", 32, "clients at once that make the keys to list")
	return c
}

func oneOrTwo(c *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return usage("%s takes one or two targets, got %d\nSee: %s --help", c.CommandPath(), len(args), c.CommandPath())
	}
	return nil
}

// s3Target reads NAME=http://ACCESS:SECRET@HOST:PORT.
func s3Target(ctx context.Context, arg, region string, o bench.S3Options) (bench.Target, error) {
	name, endpoint, ok := strings.Cut(arg, "=")
	if !ok {
		name, endpoint = arg, arg
	}
	access, secret := firstEnv("S3_ROOT_USER", "AWS_ACCESS_KEY_ID"), firstEnv("S3_ROOT_PASSWORD", "AWS_SECRET_ACCESS_KEY")
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if !ok || (scheme != "http" && scheme != "https") {
		return bench.Target{}, usage("%s: a target looks like http://HOST:PORT", arg)
	}
	if cred, host, ok := strings.Cut(rest, "@"); ok {
		access, secret, _ = strings.Cut(cred, ":")
		rest = host
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "http://"), "https://")
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name = name[i+1:]
	}
	l, err := bench.NewS3Load(ctx, bench.NewS3(scheme+"://"+rest, access, secret, region), o)
	return bench.Target{Name: name, Workload: l}, err
}

func firstEnv(names ...string) string {
	for _, n := range names {
		if v := os.Getenv(n); v != "" {
			return v
		}
	}
	return "minioadmin"
}

func benchFSCommand() *cobra.Command {
	var o bench.FSOptions
	var rounds int
	c := &cobra.Command{
		Use:   "fs DIR...",
		Short: "Measure file operations in directories",
		Long: `Measure file operations in a directory, or compare several. It works in a new
directory below each and removes it. A DIR can be given a name for the table:
NAME=DIR. Files at random places are read without what the kernel has kept of them.`,
		Example: "  twofold bench fs twofold=/mnt/twofold/scratch ext4=/tmp --git .",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("%s takes directories\nSee: %s --help", c.CommandPath(), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			var targets []bench.Target
			for _, a := range args {
				name, dir, ok := strings.Cut(a, "=")
				if !ok {
					name, dir = a, a
				}
				l, err := bench.NewFSLoad(dir, o)
				if err != nil {
					return usage("%w", err)
				}
				defer l.Close()
				targets = append(targets, bench.Target{Name: name, Workload: l})
			}
			return runBench(ctx, c, rounds, targets)
		},
	}
	f := c.Flags()
	f.IntVar(&rounds, "rounds", 3, "how often everything is done")
	f.IntVar(&o.Clients, "threads", 16, "threads at once, beside a single one")
	f.IntVar(&o.SmallSize, "small", 4<<10, "`BYTES` of a small file")
	f.IntVar(&o.SmallCount, "small-count", 4000, "small files a round (an eighth with a single thread)")
	f.IntVar(&o.StatPasses, "stat-passes", 4, "how often each of the small files is looked at")
	f.Int64Var(&o.LargeSize, "large", 256<<20, "`BYTES` of the large file; 0: none")
	f.IntVar(&o.RandomCount, "random-count", 8000, "random reads of the large file a round, and a quarter as many writes")
	f.StringVar(&o.Tar, "tar", "", "tar `FILE` to unpack")
	f.StringVar(&o.Git, "git", "", "git `REPOSITORY` to clone")
	return c
}

func runBench(ctx context.Context, c *cobra.Command, rounds int, targets []bench.Target) error {
	if rounds < 1 {
		return usage("--rounds is at least 1")
	}
	var progress io.Writer = io.Discard
	if st, err := os.Stderr.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
		progress = os.Stderr
	}
	res, err := bench.Run(ctx, progress, rounds, targets...)
	if err != nil {
		return err
	}
	bench.Report(c.OutOrStdout(), targets, res)
	if len(targets) > 1 {
		fmt.Fprintf(c.OutOrStdout(), "\nratio: rate of %s to that of the target of the line (smallest-largest of %d rounds)\n", targets[0].Name, rounds)
	}
	return nil
}
