package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mountFlags say how the files look; `twofold server --mount` has them too.
type mountFlags struct {
	owner      string
	group      string
	umask      string
	allowOther bool
	pages      bool
}

func (m *mountFlags) add(f *pflag.FlagSet) {
	f.StringVar(&m.owner, "owner", "", "`USER` (name or number) that files have which came by S3 (default: who mounts)")
	f.StringVar(&m.group, "group", "", "`GROUP` (name or number) that files have which came by S3")
	f.StringVar(&m.umask, "umask", "022", "permission `BITS`, octal, that files do not have which came by S3")
	f.BoolVar(&m.allowOther, "allow-other", false, "let other users in (the file modes decide what they may)")
	f.BoolVar(&m.pages, "pages", false, "let the kernel keep what it has read of large files (changes of one that is being read wait 0.1 s)")
}

func (m *mountFlags) check() error {
	_, _, _, err := m.resolve()
	return err
}

// resolve looks the names up.
func (m *mountFlags) resolve() (uid, gid, umask uint32, err error) {
	uid, gid = uint32(os.Getuid()), uint32(os.Getgid())
	if m.owner != "" {
		if uid, err = lookupID(m.owner, func(n string) (string, error) {
			u, err := user.Lookup(n)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return 0, 0, 0, usage("--owner %s: %w", m.owner, err)
		}
	}
	if m.group != "" {
		if gid, err = lookupID(m.group, func(n string) (string, error) {
			g, err := user.LookupGroup(n)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return 0, 0, 0, usage("--group %s: %w", m.group, err)
		}
	}
	bits, err := strconv.ParseUint(m.umask, 8, 32)
	if err != nil || bits > 0777 {
		return 0, 0, 0, usage("--umask %s: it is an octal number from 0 to 0777", m.umask)
	}
	return uid, gid, uint32(bits), nil
}

func lookupID(s string, byName func(string) (string, error)) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil {
		return uint32(n), nil
	}
	id, err := byName(s)
	if err != nil {
		return 0, err
	}
	n, err = strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// args is the command line that says the same.
func (m *mountFlags) args() []string {
	a := []string{"--umask", m.umask, fmt.Sprintf("--allow-other=%t", m.allowOther)}
	if m.owner != "" {
		a = append(a, "--owner", m.owner)
	}
	if m.group != "" {
		a = append(a, "--group", m.group)
	}
	if m.pages {
		a = append(a, "--pages")
	}
	return a
}

// mountCommandFlags are the command line of `twofold mount`.
type mountCommandFlags struct {
	endpoint []string
	named    bool // by SOURCE, which mount(8) looks for among the mounts
	readOnly bool
	noExec   bool
	noBehind bool
	mountFlags
	credentialFlags
	logFlags
}

func mountCommand() *cobra.Command {
	f := &mountCommandFlags{}
	c := &cobra.Command{
		Use:   "mount [flags] [SOURCE] DIR",
		Short: "Mount the store's buckets, one bucket, or a prefix of one, as DIR",
		Long: `Mount a store as the directory DIR, and stay until it is unmounted (umount DIR,
Ctrl-C, SIGTERM). The server may stop and start meanwhile: programs wait for it.

SOURCE says what is mounted:

    HOST:PORT                  all buckets, as directories under DIR
    HOST:PORT/BUCKET           one bucket: DIR has its objects
    HOST:PORT/BUCKET/PREFIX    what is under PREFIX/ in the bucket, and nothing else

With --endpoint it is BUCKET[/PREFIX] alone, or all buckets without. A bucket or prefix
has to be there.

Any node of a store of several will do: the mount learns the others from it, and goes on
when that one is lost. To be mounted while it is down, give more than one: HOST:PORT with
commas between, or --endpoint several times.

The mount is bound to the directory, not to its name: it may be renamed elsewhere.
Once it is removed, everything in the mount fails with ESTALE.

In a mount of all buckets mkdir makes a bucket, and rmdir removes an empty one. What
one view writes the other reads, at once.

Needs the server's credentials: S3_ROOT_USER and S3_ROOT_PASSWORD in the environment,
or a file of such lines (--credentials).
Mounting as another user than root needs fusermount3 (apt install fuse3).

For mount(8) and fstab(5), make the link /sbin/mount.fuse.twofold to this program:

    mount -t fuse.twofold -o credentials=/etc/twofold/credentials HOST:PORT/BUCKET DIR`,
		Example: "  twofold mount 127.0.0.1:9000 /mnt/twofold\n" +
			"  twofold mount 127.0.0.1:9000/photos/2024 /mnt/photos-2024\n" +
			"  twofold mount --endpoint http://node1:9000,http://node2:9000 photos /mnt/photos",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usage("mount takes one directory, and SOURCE before it if that is not --endpoint; got %d words\nSee: twofold mount --help", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			from := args[0]
			f.named = len(args) == 2
			if len(args) == 1 || c.Flags().Changed("endpoint") {
				var err error
				if from, err = endpointSource(f.endpoint, strings.Join(args[:len(args)-1], "")); err != nil {
					return err
				}
			}
			return runMount(f, from, args[len(args)-1])
		},
	}
	c.Flags().StringSliceVar(&f.endpoint, "endpoint", []string{defaultSource}, "`URL` of a node; several times, or with commas between, for several")
	c.Flags().BoolVar(&f.readOnly, "read-only", false, "refuse changes through this mount")
	c.Flags().BoolVar(&f.noBehind, "no-write-behind", false, "commit each change of a name before it is answered")
	c.Flags().BoolVar(&f.noExec, "no-exec", false, "let nothing in the mount be executed")
	f.mountFlags.add(c.Flags())
	f.credentialFlags.add(c.Flags())
	f.logFlags.add(c.Flags())
	return c
}
