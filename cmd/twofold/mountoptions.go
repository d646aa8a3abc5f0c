package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The options of mount -o and of fstab(5)'s fourth field, and what they are to
// `twofold mount`.

// ignoredOptions are mount(8)'s own, or systemd's, and say nothing about the mount as it
// is; those that other file systems ignore as well.
var ignoredOptions = []string{
	"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "group", "_netdev", "nofail",
	"suid", "nosuid", "dev", "nodev", // mounts are nosuid,nodev: the source is another machine's
	"exec", "async", "atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime",
	"lazytime", "nolazytime", "mand", "nomand", "silent", "loud", "nosync",
	"default_permissions", // always
	"nonempty",
}

// splitOptions cuts a list at its commas, but for those in quotes and behind a backslash,
// which mount(8) and fuse(8) let values have.
func splitOptions(s string) (list []string) {
	var one strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && i+1 < len(s) && (s[i+1] == ',' || s[i+1] == '\\'):
			i++
			one.WriteByte(s[i])
		case c == ',' && !quoted:
			list = append(list, one.String())
			one.Reset()
		default:
			one.WriteByte(c)
		}
	}
	return append(list, one.String())
}

// helperFlags are the flags of `twofold mount` for options. Of options that contradict
// each other the later one counts. Unknown ones are errors unless sloppy.
func helperFlags(options []string, sloppy bool) ([]string, error) {
	var flags []string
	readOnly, noExec := false, false
	for _, o := range options {
		name, value, has := strings.Cut(o, "=")
		var flag string
		switch name {
		case "ro", "rw":
			readOnly = name == "ro"
			continue
		case "noexec", "exec":
			noExec = name == "noexec"
			continue
		case "allow_other":
			flags = append(flags, "--allow-other")
			continue
		case "pages":
			flags = append(flags, "--pages")
			continue
		case "no_write_behind":
			flags = append(flags, "--no-write-behind")
			continue
		case "credentials":
			flag = "--credentials"
			if value != "" && !filepath.IsAbs(value) {
				return nil, fmt.Errorf("credentials=%s: give an absolute path", value)
			}
		case "uid":
			flag = "--owner"
		case "gid":
			flag = "--group"
		case "umask":
			flag = "--umask"
		case "log_level":
			flag = "--log-level"
		case "remount":
			return nil, fmt.Errorf("remount: options of a mount can't be changed: unmount and mount again")
		case "password", "pass", "secret", "username":
			return nil, fmt.Errorf("%s: credentials are given in a file, credentials=FILE: everybody sees options", name)
		default:
			if sloppy || name == "" || slices.Contains(ignoredOptions, name) || strings.HasPrefix(strings.ToLower(name), "x-") || name == "comment" {
				continue
			}
			return nil, fmt.Errorf("there is no option %q. There are: credentials=FILE uid=N gid=N umask=OCTAL allow_other pages no_write_behind ro noexec log_level=LEVEL, and mount(8)'s own", name)
		}
		if !has || value == "" {
			return nil, fmt.Errorf("the option %s has no value: %s=...", name, name)
		}
		flags = append(flags, flag, value)
	}
	if readOnly {
		flags = append(flags, "--read-only")
	}
	if noExec {
		flags = append(flags, "--no-exec")
	}
	return flags, nil
}
