package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// network is the network to a server, in a process of its own: this
// one stands still when a thread waits for a page of a mapping and the garbage collector
// for that thread, and the page comes over that network.
type network struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	address string
}

// networkOf is the environment that makes a test program a network to that address.
const networkOf = "TWOFOLD_TEST_NETWORK_TO"

func newNetwork(to string) (*network, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := &network{cmd: exec.Command(self)}
	n.cmd.Env = append(os.Environ(), networkOf+"="+to)
	n.cmd.Stderr = os.Stderr
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := fmt.Fscanln(out, &n.address); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// reset cuts all connections, with what is on its way (RST).
func (n *network) reset() { fmt.Fprintln(n.in, "reset") }

// mute holds all bytes back for so long, and loses none. It does not wait.
func (n *network) mute(d time.Duration) { fmt.Fprintln(n.in, "mute", d) }

// url is where a client finds what is behind it.
func (n *network) url() string { return "http://" + n.address }

// close ends the process: it ends with its input, too.
func (n *network) close() {
	n.in.Close()
	n.cmd.Process.Kill()
	n.cmd.Wait()
}

// serveNetwork is that process.
func serveNetwork(to string) {
	p, err := newProxy(to)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(p.l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var d string
		if n, _ := fmt.Sscanf(in.Text(), "mute %s", &d); n == 1 {
			p.mute(d)
			continue
		}
		p.reset()
	}
	os.Exit(0)
}

// proxy passes connections on, and can cut what is connected.
type proxy struct {
	l  net.Listener
	to string

	quiet sync.RWMutex // held while nothing passes; shared by who passes something on

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(to string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{l: l, to: to, conns: map[net.Conn]bool{}}
	go p.serve()
	return p, nil
}

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		go p.join(c)
	}
}

// join connects a connection with the server, until either end closes it.
func (p *proxy) join(c net.Conn) {
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	p.conns[c], p.conns[s] = true, true
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, d := range [][2]net.Conn{{c, s}, {s, c}} {
		wg.Go(func() {
			p.pass(d[0], d[1])
			c.Close()
			s.Close()
		})
	}
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.conns, s)
	p.mu.Unlock()
}

// pass passes on what is read.
func (p *proxy) pass(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.quiet.RLock()
		if n > 0 {
			_, werr := to.Write(buf[:n])
			err = errors.Join(err, werr)
		}
		p.quiet.RUnlock()
		if err != nil {
			return
		}
	}
}

func (p *proxy) mute(d string) {
	if t, err := time.ParseDuration(d); err == nil {
		p.quiet.Lock()
		time.Sleep(t)
		p.quiet.Unlock()
	}
}

func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
