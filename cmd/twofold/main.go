// Command twofold is the store: a server, a mount, and the tools around them. Each
// subcommand has a file of its own; this one is the list of them.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=...
var version = "dev"

// Exit statuses. A script can tell a wrong command line from a failure.
const (
	exitFailure = 1 // it was tried and failed
	exitUsage   = 2 // the command line or the environment is wrong; nothing was changed
)

func main() {
	if isMountHelper(os.Args[0]) {
		os.Exit(runMountHelper(os.Args[0], os.Args[1:], os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == guardCommand {
		os.Exit(runGuard(os.Args[2:]))
	}
	root := rootCommand()
	if err := root.Execute(); err != nil {
		if msg := err.Error(); msg != "" {
			fmt.Fprintln(os.Stderr, "twofold:", msg)
		}
		os.Exit(statusOf(err))
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "twofold",
		Short: "One store, two views: S3 and a file system on the same buckets",
		Long: `Twofold makes one erasure-coded store of a set of drives and serves the same
buckets as an S3 HTTP API and as a POSIX file system, strictly consistent with
each other.

    twofold server --mount /mnt/twofold /drives/d{1...4}

Every command explains itself: twofold COMMAND --help`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("there is no command %q\nSee: twofold --help", args[0])
			}
			return nil
		},
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		Version: version, // --version
	}
	root.SetVersionTemplate(versionText())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w\nSee: %s --help", err, c.CommandPath())
	})
	root.AddCommand(serverCommand(), planCommand(), mountCommand(), quotaCommand(), adminCommand(), benchCommand(), versionCommand())
	return root
}

// usageError is a mistake of whoever typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// statusError asks for an exit status of its own.
type statusError struct {
	error
	status int
}

func statusOf(err error) int {
	var u usageError
	var s statusError
	switch {
	case errors.As(err, &s):
		return s.status
	case errors.As(err, &u):
		return exitUsage
	default:
		return exitFailure
	}
}
