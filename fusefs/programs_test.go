package fusefs

// programs are what a test runs in a process of its own.
func programs() map[string]func(args []string) error {
	return nil
}
