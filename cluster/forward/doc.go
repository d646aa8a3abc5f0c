// Package forward answers S3 requests at a node that does not lead: it streams each to
// the leading node, and the answer back.
//
//	client                    this node                     leading node
//	PUT, headers   ------->   who leads? wait, 10 s at most
//	                          PUT, the same headers  ------>
//	                                                 <------ 100 Continue
//	  <------- 100 Continue
//	body           ------->   body                   ------>
//	                                                 <------ 200
//	  <------- 200
//
// # What is kept
//
// The signature is verified at the leading node, so what it may be over goes there as it
// came: the request's target byte by byte, Host, all header fields but those of the one
// connection (RFC 9110 section 7.6.1), the body. That a field is absent is kept too:
// nothing is added but the mark, below, and an Expect, below. This is why net/http's
// client is not used: it adds, orders anew and repairs.
//
// # The body
//
// Nothing of it is read before a leading node is known. One of up to 64 KiB is read
// whole, and goes in one piece behind the headers. Before a larger one, and where the
// client waits for "100 Continue" itself, the leading node is asked with "Expect:
// 100-continue" (RFC 9110 section 10.1.1) whether it wants it: for a round trip, a
// refusal comes before the body, and while nothing of it was read the request can be sent
// again to another node.
//
// # One hop
//
// A forwarded request carries a mark that only nodes can make (a MAC by the secret that
// they share). A node that gets one and does not lead answers 503 at once, marked too,
// and the first node asks who leads again. From outside the mark is ignored.
//
// # When a node is lost
//
// Where it is certain that the leading node did nothing (not reached, not the leading
// one, no body sent), and for GET and HEAD, the request is sent again, to whoever leads
// then. After ten seconds it is 503 SlowDown with Retry-After. A change that was sent and
// not answered is InternalError: it may have happened. Repeating it here could undo what
// others have done in between. Where the answer has begun, the client's connection is
// cut: a short body never looks like a whole one.
package forward
