package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"twofold"
	"twofold/admin"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// quotaFlags are the command line of `twofold quota`.
type quotaFlags struct {
	endpoint string
	clear    bool
	credentialFlags
}

func quotaCommand() *cobra.Command {
	f := &quotaFlags{}
	c := &cobra.Command{
		Use:   "quota [flags] BUCKET [SIZE]",
		Short: "Show how much is in a bucket, or limit it",
		Long: `Show how much is in a bucket and how much may be; with SIZE, set that limit.

SIZE is a number of bytes, or has a unit: KiB, MiB, GiB, TiB, PiB, and K, M, G, T, P
alone, are powers of 1024; KB, MB, GB, TB, PB powers of 1000. What counts is the size of
objects and files as S3 and ls show it (holes count, parity and hard links do not), and
parts of uploads.

Beyond the limit a PUT is answered 403 QuotaExceeded and write(2) fails with EDQUOT.
What is in the bucket already stays, and deleting is always possible.

The first quota of a store takes a while: what is in it is counted then.

Needs the server's credentials: S3_ROOT_USER and S3_ROOT_PASSWORD in the environment,
or a file of such lines (--credentials).`,
		Example: "  twofold quota photos\n  twofold quota photos 10GiB\n  twofold quota photos --clear",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usage("quota takes a bucket and perhaps a size, got %d words\nSee: twofold quota --help", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runQuota(f, c.OutOrStdout(), args) },
	}
	c.Flags().StringVar(&f.endpoint, "endpoint", defaultSource, "`URL` of the server")
	c.Flags().BoolVar(&f.clear, "clear", false, "take the limit away")
	f.credentialFlags.add(c.Flags())
	return c
}

func runQuota(f *quotaFlags, out io.Writer, args []string) error {
	bucket, limit := twofold.BucketName(args[0]), int64(0)
	set := f.clear
	if len(args) == 2 {
		if f.clear {
			return usage("give a size or --clear, not both")
		}
		var err error
		if limit, err = parseSize(args[1]); err != nil {
			return err
		}
		set = true
	}
	src, err := parseSource(f.endpoint)
	if err != nil || src.bucket != "" || len(src.hosts()) != 1 {
		return usage("--endpoint %s: it looks like http://HOST:PORT", f.endpoint)
	}
	secret, err := f.secret()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var q api.Quota
	client, err := admin.Dial(dial, src.host, secret)
	if err == nil {
		defer client.Close()
		patience := time.AfterFunc(3*time.Second, func() {
			fmt.Fprintln(os.Stderr, "twofold: what is in the store is being counted")
		})
		defer patience.Stop()
		if set {
			q, err = client.SetQuota(ctx, bucket, limit)
		} else {
			q, err = client.Quota(ctx, bucket)
		}
	}
	switch {
	case errs.Is(err, errs.NoBucket):
		return fmt.Errorf("there is no bucket %q", bucket)
	case err != nil && client == nil:
		return dialError(src.host, err)
	case err != nil:
		return plain(err)
	}
	fmt.Fprint(out, quotaText(q))
	return nil
}

// quotaText is for people, one thing a line; the first number of a line is in bytes.
func quotaText(q api.Quota) string {
	var b strings.Builder
	line := func(what string, n int64, more string) {
		fmt.Fprintf(&b, "%-9s %d%s%s\n", what, n, inUnits(n), more)
	}
	fmt.Fprintf(&b, "bucket    %s\n", q.Bucket)
	if q.Limit == 0 {
		fmt.Fprintf(&b, "quota     none\n")
		line("used", q.Used, "")
		return b.String()
	}
	line("quota", q.Limit, "")
	line("used", q.Used, fmt.Sprintf(" %d%%", int64(math.Ceil(100*float64(q.Used)/float64(q.Limit)))))
	if q.Reserved > 0 {
		line("reserved", q.Reserved, " for files that are open in mounts")
	}
	line("free", max(0, q.Limit-q.Used-q.Reserved), "")
	return b.String()
}

// inUnits is " (1.5 GiB)", for more than a KiB.
func inUnits(n int64) string {
	if n < 1<<10 {
		return ""
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return fmt.Sprintf(" (%.4g %ciB)", f, "KMGTP"[unit])
}

// parseSize reads the size of a quota.
func parseSize(s string) (int64, error) {
	n, err := parseBytes(s)
	if err == nil && n == 0 {
		return 0, usage("the size %s: a bucket that takes nothing is none; --clear takes a limit away", s)
	}
	return n, err
}

// parseBytes reads a number of bytes, with a unit or not.
func parseBytes(s string) (int64, error) {
	const form = "it looks like 10GiB, 500MB or 1000000"
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	number, unit := s[:i], strings.ToUpper(strings.TrimSpace(s[i:]))
	n, ok := new(big.Rat).SetString(number)
	if !ok || len(number) > 30 {
		return 0, usage("the size %s: %s", s, form)
	}
	factor := int64(1)
	if unit != "" && unit != "B" {
		exp := strings.IndexByte("KMGTP", unit[0]) + 1
		base := map[string]int64{"": 1024, "IB": 1024, "B": 1000}[unit[1:]]
		if exp == 0 || base == 0 {
			return 0, usage("the size %s: %s", s, form)
		}
		for range exp {
			factor *= base
		}
	}
	n.Mul(n, new(big.Rat).SetInt64(factor))
	bytes := new(big.Int).Quo(n.Num(), n.Denom())
	if !bytes.IsInt64() || bytes.Int64() > twofold.MaxFileLen {
		return 0, usage("the size %s is too large", s)
	}
	return bytes.Int64(), nil
}
