package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold/test/harness"
)

// Cluster is nodes, a client's machine, and the network between them.
type Cluster struct {
	t      testing.TB
	Nodes  []*Node // number i is node i+1 by name
	Client *Node   // a machine without drives; its number is len(Nodes)
	Net    *Switch
	http   *http.Client
}

// New makes machines without starting a server on them. It skips the test where that
// takes more rights than this process has.
func New(t testing.TB, nodes int) *Cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces takes root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("there are no tun devices for the network between the nodes: %v", err)
	}
	harness.Need(t, "ip", "nsenter", "mount")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t}
	hosts := "127.0.0.1 localhost\n"
	for i := range nodes + 1 {
		name := fmt.Sprintf("node%d", i+1)
		if i == nodes {
			name = "client"
		}
		n := newNode(t, i, name, root)
		hosts += fmt.Sprintf("%s %s\n", n.Addr, n.Name)
		c.Nodes = append(c.Nodes, n)
	}
	var addrs []netip.Addr
	var tuns []*os.File
	for _, n := range c.Nodes {
		f, err := openTun(n.shell.sh.Process.Pid, "eth")
		if err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
		addrs, tuns = append(addrs, n.Addr), append(tuns, f)
	}
	c.Net = newSwitch(addrs, tuns)
	t.Cleanup(c.Net.close)
	for _, n := range c.Nodes {
		if err := n.furnish(hosts); err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
	}
	c.Client, c.Nodes = c.Nodes[nodes], c.Nodes[:nodes]
	transport := &http.Transport{DialContext: c.Dial, MaxIdleConnsPerHost: 100, IdleConnTimeout: 10 * time.Second}
	c.http = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return c
}

// Drives is the argument that names n drives of each node, as in
// "http://node{1...4}:9000/.../data/d{1...2}".
func (c *Cluster) Drives(n int) string {
	return fmt.Sprintf("http://node{1...%d}:9000%s/d{1...%d}", len(c.Nodes), c.Client.Data, n)
}

// Dial connects from the client's machine. The host of addr is a node's name or an IP
// address.
func (c *Cluster) Dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if n.Name == host { // a literal address: no look-up, and no other goroutine that would be in another network
			addr = net.JoinHostPort(n.Addr.String(), port)
		}
	}
	err = inNetwork(fmt.Sprintf("/proc/%d/ns/net", c.Client.shell.sh.Process.Pid), func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// HTTP is a client on the client's machine; hosts are nodes' names.
func (c *Cluster) HTTP() *http.Client { return c.http }

// S3 is a client, on the client's machine, of one node. It retries as the SDK does by
// default.
func (c *Cluster) S3(n *Node, opts ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + n.Name + ":9000"), UsePathStyle: true, HTTPClient: c.http,
		Credentials: credentials.NewStaticCredentialsProvider(harness.User, harness.Password, ""),
	}, opts...)
}

// patient is a client that repeats what fails soon and as often as it takes: what is measured
// with it is the store, and not the pauses of the SDK, which grow to seconds.
func patient(o *s3.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 1<<20, 100*time.Millisecond, ratelimit.None
	})
}

// Await waits until each of the nodes (all, if none is named) answers a listing of
// buckets, and fails the test after a minute, or when a server ends.
func (c *Cluster) Await(nodes ...*Node) {
	c.t.Helper()
	if len(nodes) == 0 {
		nodes = c.Nodes
	}
	for _, n := range nodes {
		err := errors.New("")
		for end := time.Now().Add(startTime); err != nil; time.Sleep(20 * time.Millisecond) {
			if !n.Serving() {
				c.t.Fatalf("the server of %s ended", n.Name)
			}
			if time.Now().After(end) {
				c.t.Fatalf("%s does not serve: %v", n.Name, err)
			}
			ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
			_, err = c.S3(n, func(o *s3.Options) { o.RetryMaxAttempts = 1 }).ListBuckets(ctx, nil)
			cancel()
		}
	}
}
