// Package peers has the connections between the nodes of a store.
//
// Each node dials every other one, twice: one connection for small calls that must not
// wait (Control), one for shards (Data), because a large frame holds up the small ones
// behind it. A node's calls go over the connections that it has dialled itself; on those
// that it has accepted it serves. So there is nothing to agree on when both dial at
// once, and a node that can reach another one calls it whether or not that one can call
// back.
//
//	node 0                                             node 1
//	rpc handshake, RoleNode (cluster/rpc)      <----->
//	hello: who, for whom, arguments, clock      ----->
//	                                           <-----  hello of the other, refused or not
//	ping, every 250 ms (Control)                ----->
//	                                           <-----  pong: clock
//	calls                                       ----->
//
// The handshake of cluster/rpc proves that the other end has the root credentials; the
// hello says whether the two belong together (check.go). Both ends check, and a refusal
// is a sentence for the operator, logged once by each side until it changes.
//
// # Up and down
//
// A node is up while both connections to it stand and its pings are answered; a node
// that is stopped, or cut off without a reset, is down 1.5 seconds after its last sign
// of life. Down comes first, then the connections are closed: a call in flight ends with
// errs.Unavailable when the node is no longer up. A call to a node that is down fails at
// once: this package repeats nothing and queues nothing.
//
// Being up is no promise about the next call, and being down no statement about the
// other node: only about this node's way to it.
package peers
