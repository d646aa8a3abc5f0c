package main

import (
	"fmt"
	"os"
	"time"

	"twofold/internal/config"

	"github.com/spf13/cobra"
)

// serverFlags are the command line of `twofold server`.
type serverFlags struct {
	address string
	node    string
	hints   bool
	mount   string
	scrub   time.Duration
	mountFlags
	logFlags
}

func serverCommand() *cobra.Command {
	f := &serverFlags{}
	c := &cobra.Command{
		Use:   "server [flags] DRIVES...",
		Short: "Serve a store: S3, and with --mount also its files",
		Long: `Serve a store on the drives given: directories, each on a disk of its own.

    twofold server /data                           one drive, without parity
    twofold server /disk{1...4}/twofold            four drives: reads survive the loss of
                                                   any two, writes of any one
    twofold server /a{1...8} /b{1...8}             two pools of eight
    twofold server http://node{1...4}/data{1...4}  four machines with four drives each:
                                                   the same command on every one

Three dots between braces count up; each argument with them is a pool, and plain
directories together are one. Directories are to be empty the first time. To make
the store larger, add another pool to the arguments and start it again.

A store on several machines is started with the same arguments, environment and
version on each. Every one serves S3 and can mount. The port is 9000 where the URLs
have none. They need S3_ROOT_USER and S3_ROOT_PASSWORD, the same everywhere, clocks
within 15 minutes, and a network that nobody else reads.

Environment:
  S3_ROOT_USER, S3_ROOT_PASSWORD   credentials (default minioadmin, minioadmin: then
                                   only this machine is served)
  S3_DOMAIN                        domains for bucket.domain style requests
  S3_REGION                        region (default us-east-1)
  S3_STORAGE_CLASS_STANDARD=EC:n   parity of objects
  S3_STORAGE_CLASS_RRS=EC:n        parity of REDUCED_REDUNDANCY objects
  GOMEMLIMIT                       soft limit of the memory of the server, and of its
                                   mount (default 768MiB)
  GOMAXPROCS                       threads that may run Go code at once (default: 6
                                   more than processors)
Those with S3_ are understood with MINIO_ in its place as well.

Exit status: 0 stopped when asked to; 1 failed; 2 wrong arguments, environment or drives.`,
		Example: "  twofold server --mount /mnt/twofold /disk{1...4}/twofold",
		RunE: func(c *cobra.Command, args []string) error {
			if os.Getenv(workerEnv) != "" {
				return runWorker(c.Context(), f, args)
			}
			return supervise(f, args)
		},
	}
	c.Flags().StringVar(&f.address, "address", "", "`HOST:PORT` to listen on (default :9000; 127.0.0.1:9000 while the credentials are the default ones)")
	c.Flags().StringVar(&f.node, "node", "", "`URL` of this node in the arguments, where its addresses don't tell")
	c.Flags().StringVar(&f.mount, "mount", "", "also serve the buckets as directories under `DIR`")
	c.Flags().BoolVar(&f.hints, "hints", false, "print what to try")
	c.Flags().DurationVar(&f.scrub, "scrub-cycle", 30*24*time.Hour, "read and check everything on the drives once in `DURATION`, beginning at the start; 1s is as fast as it goes")
	f.mountFlags.add(c.Flags())
	f.logFlags.add(c.Flags())
	return c
}

// supervise runs the worker, and the mount process if one is asked for.
func supervise(f *serverFlags, args []string) error {
	set, err := f.check(args)
	if err != nil {
		return err
	}
	if f.mount != "" {
		if err := checkMountPoint(f.mount); err != nil {
			return err
		}
	}
	log, err := f.logger(os.Stderr)
	if err != nil {
		return err
	}
	l, err := newLegacy(set.listen)
	if err != nil {
		return err
	}
	defer l.close()
	s := &supervisor{args: os.Args[1:], log: log, legacy: l, limits: defaultLimits()}
	if f.mount != "" {
		dir, err := realPath(f.mount)
		if err != nil {
			return usage("--mount %s: %w", f.mount, err)
		}
		s.mount = newMountKeeper(dir, append(f.mountFlags.args(), f.logFlags.args()...), log)
	}
	return s.run()
}

// listenAddress is where to listen. The default credentials are for a trial on one
// machine: nobody else gets in.
func (f *serverFlags) listenAddress(cfg config.Config) string {
	switch {
	case f.address != "":
		return f.address
	case cfg.Root.Default:
		return "127.0.0.1:9000"
	}
	return ":9000"
}

// hintText is what `make run` prints when everything is up. The password is shown only
// where everybody knows it.
func hintText(cfg config.Config, address, mount string) string {
	secret := `"$S3_ROOT_PASSWORD"`
	if cfg.Root.Default {
		secret = config.DefaultPassword
	}
	s := fmt.Sprintf(`
  Twofold serves http://%[1]s (S3). In another terminal:

    export AWS_ACCESS_KEY_ID=%[2]s AWS_SECRET_ACCESS_KEY=%[3]s AWS_DEFAULT_REGION=%[4]s
    aws --endpoint-url http://%[1]s s3 mb s3://photos
    echo hello | aws --endpoint-url http://%[1]s s3 cp - s3://photos/2026/hello.txt
`, address, cfg.Root.AccessKey, secret, cfg.Region)
	if mount != "" {
		s += fmt.Sprintf(`
  The same bucket is a directory:

    cat %[1]s/photos/2026/hello.txt
    echo 'hello again' >> %[1]s/photos/2026/hello.txt
    aws --endpoint-url http://%[2]s s3 cp s3://photos/2026/hello.txt -
`, mount, address)
	}
	return s + "\n  Ctrl-C stops it; the next run finds its data.\n\n"
}
