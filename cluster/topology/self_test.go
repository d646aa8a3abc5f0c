package topology

import (
	"errors"
	"strings"
	"testing"

	"twofold/internal/errs"
)

func TestSelf(t *testing.T) {
	const two = "http://127.0.0.1:9001/1/d http://127.0.0.1:9002/2/d"
	for _, c := range []struct {
		args  string
		port  int
		local string // hosts that are this machine; one with a "!" can't be looked up
		want  int
		kind  errs.Kind
		says  string
	}{
		{"http://node{1...4}/d", 9000, "node3", 2, 0, ""},
		{"http://node{1...4}/d", 9000, "node3 node1!", 2, 0, ""},
		{two, 9002, "127.0.0.1", 1, 0, ""},
		{"./d{1...4}", 9001, "", 0, 0, ""},
		{"http://node{1...4}/d", 9000, "node2 node3", 0, errs.Invalid, "http://node2:9000, http://node3:9000 are all this machine and its port 9000"},
		{"http://node{1...4}/d", 9000, "", 0, errs.Invalid, "none of the nodes in the arguments is this machine: http://node1:9000, http://node2:9000, http://node3:9000, http://node4:9000;"},
		{"http://node{1...16}/d", 9000, "", 0, errs.Invalid, "http://node3:9000, ... (16 in all), http://node16:9000;"},
		{"http://node{1...4}/d", 9000, "node3!", 0, errs.Unavailable, "node3 can't be looked up: no name server"},
		{"http://node{1...4}/d", 9001, "node3", 0, errs.Invalid, "this machine is http://node3:9000 in the arguments, but it was told to listen on port 9001: start it with --address :9000"},
		{two, 9003, "127.0.0.1", 0, errs.Invalid, "this machine is http://127.0.0.1:9001, http://127.0.0.1:9002 in the arguments"},
		{"http://one/d{1...4}", 9000, "", 0, errs.Invalid, "none of the nodes"},
	} {
		isLocal := func(host string) (bool, error) {
			for _, l := range strings.Fields(c.local) {
				if l == host+"!" {
					return false, errors.New("no name server")
				}
				if l == host {
					return true, nil
				}
			}
			return false, nil
		}
		got, err := parse(t, c.args).Self(c.port, isLocal)
		if c.says == "" && (err != nil || got != c.want) {
			t.Errorf("%s: node %d, %v", c.args, got, err)
		}
		if c.says != "" && (errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s, local %q: %v, want: %s", c.args, c.local, err, c.says)
		}
	}
}

func TestNamed(t *testing.T) {
	top := parse(t, "http://node{1...2}/d http://node{1...2}:9001/e")
	for name, want := range map[string]int{"http://node2:9000": 1, "NODE1": 0, "node2:9001": 3, "http://node1:9001/": 2} {
		if got, err := top.Named(name); err != nil || got != want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
	for name, says := range map[string]string{"node3": "http://node3:9000 is none of the nodes", "https://node1": "none of the nodes", "": "names no host"} {
		if _, err := top.Named(name); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := parse(t, "d{1...4}").Named("node1"); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "name no nodes") {
		t.Error(err)
	}
}

func TestLocal(t *testing.T) {
	for host, want := range map[string]bool{"127.0.0.1": true, "127.0.0.9": true, "::1": true, "192.0.2.1": false} { // RFC 5737: nobody's
		if got, err := Local(t.Context(), host); err != nil || got != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
}
