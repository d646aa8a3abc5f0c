package main

import (
	"fmt"
	"os"

	"twofold/fusefs"
)

// guardCommand is how a mount starts the process that guards it. It is no command for
// people, so it is not among those of --help.
const guardCommand = "guard-mount"

// startGuard starts it.
func startGuard(s *fusefs.Server) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.Guard(self, guardCommand)
}

// runGuard is that process. Nobody reads what it says.
func runGuard(args []string) int {
	if err := fusefs.RunGuard(args); err != nil {
		fmt.Fprintln(os.Stderr, "twofold:", err)
		return exitFailure
	}
	return 0
}
