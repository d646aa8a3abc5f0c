package remote

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"twofold/cluster/rpc"
	"twofold/internal/errs"
)

const (
	// stagger is how long one node has for its answer before the next one is asked beside it
	// (RFC 8305, section 5, has 250 ms for connections to addresses of one host).
	stagger = 150 * time.Millisecond
	// visitTimeout is how long it has before it is given up, where there are others; more
	// when all were asked without success. A process that is paused has its connections made
	// by its kernel, and never answers.
	visitTimeout = time.Second
)

// visit is what came of asking a node.
type visit struct {
	at    string
	conn  *rpc.Conn // nil after an error
	where whereAns
	err   error
}

// seek finds the node that leads, and returns a connection to it without a session: the nodes
// are asked in turn, first the one that led last, and whoever another one names. Where none leads
// the error is of the one that says most; where one does, but can't be reached from here, it
// says that. Where but is a link, another node than that one is sought.
func (c *Client) seek(ctx context.Context, patience time.Duration, but *link) (found visit, err error) {
	ctx, cancel := context.WithCancel(ctx)
	visits := make(chan visit)
	under := 0 // visits under way
	failed := map[string]error{}
	var named visit // the last one that knew of a node that leads
	defer func() {
		cancel()
		for ; under > 0; under-- {
			if v := <-visits; v.conn != nil {
				v.conn.Close()
			}
		}
	}()
	asked := map[string]bool{}
	queue := c.nodes.all()
	if but != nil {
		queue = slices.DeleteFunc(queue, func(at string) bool { return at == but.at })
		asked[but.at] = true
		err = errs.Newf("remote.Dial", errs.Unavailable, "no other node is known")
	}
	next := func() {
		for len(queue) > 0 {
			at := queue[0]
			if queue = queue[1:]; asked[at] {
				continue
			}
			asked[at] = true
			under++
			bound := patience
			if len(asked)+len(queue) == 1 {
				bound = 0 // it is the only one: the transport's
			}
			go func() { visits <- c.visit(ctx, at, bound) }()
			return
		}
	}
	tick := time.NewTicker(stagger)
	defer tick.Stop()
	for next(); under > 0; {
		select {
		case v := <-visits:
			under--
			switch {
			case v.err != nil:
				err, failed[v.at] = worse(err, v.err), v.err
			case v.where.Here && (but == nil || but.url == "" || v.where.Leading != but.url): // it may have several names
				c.nodes.leads(v.at)
				return v, nil
			default:
				v.conn.Close()
				err = worse(err, errs.Newf("remote.Dial", errs.Unavailable, "no node leads that %s knows of", v.at))
				if lead := hostPort(v.where.Leading); lead != "" {
					named = v
					if !asked[lead] {
						queue = append([]string{lead}, queue...)
					}
				}
				queue = append(queue, c.nodes.all()...)
			}
			next()
		case <-tick.C:
			next()
		}
	}
	lead := hostPort(named.where.Leading)
	if why := failed[lead]; why != nil && errs.Is(err, errs.Unavailable) {
		err = errs.Newf("remote.Dial", errs.Unavailable, "%s leads the store, as %s says, but is not reached from here: %s", lead, named.at, inWords(why))
	}
	return visit{}, err
}

// inWords is why a node could not be asked, for people: without what its name and the
// error's own origin add.
func inWords(err error) string {
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no host of that name"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "no answer"
	}
	return err.Error()
}

// worse is the error of the two that waiting helps less.
func worse(a, b error) error {
	rank := func(err error) int {
		switch {
		case err == nil:
			return 0
		case errs.Is(err, errs.Access):
			return 3 // of one is of all
		case errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Canceled):
			return 2
		}
		return 1
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// visit asks a node whether it leads. A server of before there were several is the only one.
func (c *Client) visit(ctx context.Context, at string, patience time.Duration) visit {
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	conn, err := rpc.Dial(ctx, at, c.opts.Transport, (*callbacks)(c))
	if err != nil {
		return visit{at: at, err: err}
	}
	var a whereAns
	_, err = conn.Call(ctx, &rpc.Call{Method: mWhere, Reply: &a, Urgent: true})
	if errs.Is(err, errs.Unsupported) {
		return visit{at: at, conn: conn, where: whereAns{Here: true}}
	}
	if err != nil {
		conn.Close()
		return visit{at: at, err: err}
	}
	c.nodes.learn(a)
	return visit{at: at, conn: conn, where: a}
}
