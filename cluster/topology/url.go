package topology

import (
	"net/netip"
	"path"
	"strconv"
	"strings"
)

const urlForm = "a drive of a node is written http://HOST[:PORT]/DIRECTORY"

// parseURL reads one drive's URL, without ellipses. The path is taken as it is: there
// are no %-escapes, no queries and no fragments, so that what is written is the
// directory's name.
func parseURL(u string) (Node, string, error) {
	scheme, rest, _ := strings.Cut(u, "://")
	scheme = strings.ToLower(scheme)
	if strings.Contains(strings.SplitN(rest, "/", 2)[0], "@") { // not repeated: there may be a password in it
		return Node{}, "", invalid("a URL of a node has no user or password in it: nodes know each other by S3_ROOT_USER and S3_ROOT_PASSWORD of the environment")
	}
	if scheme != "http" && scheme != "https" {
		return Node{}, "", invalid("%q: nodes speak http:// or https://, not %s://", u, scheme)
	}
	if i := strings.IndexAny(rest, "?#%\\\x00"); i >= 0 {
		return Node{}, "", invalid("%q has a %q in it: %s; the directory's name is taken as it is, without escapes", u, rest[i], urlForm)
	}
	host, dir, slash := strings.Cut(rest, "/")
	dir = path.Clean("/" + dir)
	if !slash || dir == "/" {
		return Node{}, "", invalid("%q names no directory: %s", u, urlForm)
	}
	node := Node{Scheme: scheme, Port: DefaultPort}
	name, port, err := splitHost(u, host)
	if err != nil {
		return Node{}, "", err
	}
	if node.Host, err = canonicalHost(u, name); err != nil {
		return Node{}, "", err
	}
	if port != "" {
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil || p == 0 || port[0] == '+' {
			return Node{}, "", invalid("%q: the port %q is no number from 1 to 65535", u, port)
		}
		node.Port = int(p)
	}
	return node, dir, nil
}

// splitHost parts HOST, HOST:PORT, [IPv6] and [IPv6]:PORT. port is empty where there
// is none.
func splitHost(u, s string) (host, port string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, after, closed := strings.Cut(inner, "]")
		port, colon := strings.CutPrefix(after, ":")
		if a, err := netip.ParseAddr(host); !closed || err != nil || !a.Is6() {
			return "", "", invalid("%q: %q is no IPv6 address in brackets, as in http://[fd00::1]:9000/data", u, s)
		}
		if after != "" && !colon || colon && port == "" {
			return "", "", invalid("%q: what follows the \"]\" is a colon and a port, as in http://[fd00::1]:9000/data", u)
		}
		return host, port, nil
	}
	host, port, colon := strings.Cut(s, ":")
	switch {
	case strings.Contains(port, ":"):
		return "", "", invalid("%q: an IPv6 address is written in brackets, as in http://[fd00::1]:9000/data", u)
	case colon && port == "":
		return "", "", invalid("%q: there is no port after the colon", u)
	}
	return host, port, nil
}

// canonicalHost checks a host's name by RFC 1123 section 2.1 (underscores, which
// container networks use, allowed) and gives names in lower case, without the root's
// dot, and addresses in their shortest form.
func canonicalHost(u, host string) (string, error) {
	if host == "" {
		return "", invalid("%q names no host: %s", u, urlForm)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() {
			return "", invalid("%q: %s is not the address of one machine; other nodes have to reach this one by it", u, host)
		}
		return a.String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if len(name) > 253 {
		return "", invalid("%q: a host name has at most 253 characters", u)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", invalid("%q: %q is no host name", u, host)
		}
		for _, c := range label {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", invalid("%q: a host name has letters, digits, dots and hyphens, and no %q", u, c)
			}
		}
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", invalid("%q: %q is no IPv4 address, and a host name does not end in a number alone", u, host)
	}
	return name, nil
}
