package topology

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"twofold/internal/errs"
)

// Self tells which node this process is: the one whose port it listens on and whose
// host is this machine, as isLocal says (see Local). The only node needs no name, and
// is always this one if it has none.
//
// errs.Invalid where none or several are, with a sentence that says what to do;
// errs.Unavailable where none is but a name could not be looked up (try again later,
// as the name server may not be up yet).
func (t Topology) Self(port int, isLocal func(host string) (bool, error)) (int, error) {
	if t.Nodes[0].Scheme == "" {
		return 0, nil
	}
	type answer struct {
		local bool
		err   error
	}
	asked := map[string]answer{}
	var mine, others []int // others: this machine, with another port
	var unknown error
	for i, n := range t.Nodes {
		a, ok := asked[n.Host]
		if !ok {
			a.local, a.err = isLocal(n.Host)
			asked[n.Host] = a
			if a.err != nil && unknown == nil {
				unknown = errs.Newf("", errs.Unavailable, "which node this is can't be told: %s can't be looked up: %v", n.Host, a.err)
			}
		}
		switch {
		case a.local && n.Port == port:
			mine = append(mine, i)
		case a.local:
			others = append(others, i)
		}
	}
	switch {
	case len(mine) == 1:
		return mine[0], nil
	case len(mine) > 1:
		return 0, invalid("%s are all this machine and its port %d: give each node one address, and say which one this is with --node URL", t.list(mine), port)
	case len(others) == 1:
		return 0, invalid("this machine is %s in the arguments, but it was told to listen on port %d: start it with --address :%d, or write the port %d behind the host",
			t.Nodes[others[0]], port, t.Nodes[others[0]].Port, port)
	case len(others) > 1:
		return 0, invalid("this machine is %s in the arguments, but it was told to listen on port %d: start each with its own port, as in --address :%d",
			t.list(others), port, t.Nodes[others[0]].Port)
	case unknown != nil:
		return 0, unknown
	}
	return 0, invalid("none of the nodes in the arguments is this machine: %s; no address of its interfaces is theirs. Correct the names, or say which one this is with --node URL", t.Names())
}

// Named is the position of a node that is given as a URL (http://node1:9000) or as
// HOST[:PORT]; without a port it is the one with DefaultPort. errs.Invalid where there is none.
func (t Topology) Named(url string) (int, error) {
	if t.Nodes[0].Scheme == "" {
		return 0, invalid("%q: the arguments name no nodes, only directories of this machine", url)
	}
	scheme, host, ok := strings.Cut(url, "://")
	if !ok {
		scheme, host = t.Nodes[0].Scheme, url
	}
	want, _, err := parseURL(scheme + "://" + strings.TrimSuffix(host, "/") + "/node")
	if err != nil {
		return 0, err
	}
	for i, n := range t.Nodes {
		if n == want {
			return i, nil
		}
	}
	return 0, invalid("%s is none of the nodes in the arguments: %s", want, t.Names())
}

// Names lists the nodes for people, the middle of a long list left out.
func (t Topology) Names() string { return t.list(seq(len(t.Nodes))) }

func (t Topology) list(nodes []int) string {
	var s []string
	for i, n := range nodes {
		if len(nodes) > 8 && i >= 3 && i < len(nodes)-1 {
			if i == 3 {
				s = append(s, fmt.Sprintf("... (%d in all)", len(nodes)))
			}
			continue
		}
		s = append(s, t.Nodes[n].String())
	}
	return strings.Join(s, ", ")
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Local is an isLocal for Self: it reports whether a host's name or address is one of
// this machine's interfaces, as the system's resolver and getifaddrs(3) have it. All
// of 127.0.0.0/8 is this machine. ctx bounds the look-up.
func Local(ctx context.Context, host string) (bool, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, err
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	own := map[netip.Addr]bool{}
	for _, a := range interfaces {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap().WithZone("")] = true
		}
	}
	for _, ip := range ips {
		if ip = ip.Unmap().WithZone(""); ip.IsLoopback() || own[ip] {
			return true, nil
		}
	}
	return false, nil
}
