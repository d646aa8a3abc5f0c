// Package rpc is the transport between a mount and a node, and between nodes:
// calls in both directions over one TCP connection to the server's one port.
//
// # A connection's life
//
//	client                                              server
//	GET /twofold/rpc/1, Upgrade: twofold-rpc/1  ------>
//	                                            <------ 101 Switching Protocols
//	hello: role, versions, limits, nonce        ------>
//	                                            <------ hello
//	proof: HMAC(secret, "client", both hellos)  ------>
//	                                            <------ status, HMAC(secret, "server", both hellos)
//	frames                                      <-----> frames
//
// Both prove that they know a secret derived from the root credentials, which
// never crosses the wire. The hellos carry fresh random nonces and are what the
// proofs are made over, so a proof is good for one connection, one role, one
// version and one direction only. The client proves first: who merely connects
// learns nothing to try passwords on. Until both are proven nothing but these
// fixed-size messages is read, under a deadline. The bytes that follow are neither
// encrypted nor signed by this package: across untrusted networks run it over TLS
// (a net.Conn from Config.Dial).
//
// # Frames
//
//	 0        4    5     6       8        16        20
//	+--------+----+-----+-------+--------+---------+--------------+---------------+
//	| length |type|flags| method|   id   | hdr len | header, CBOR | payload, raw  |
//	|  u32   | u8 | u8  |  u16  |  u64   |   u32   |              |               |
//	+--------+----+-----+-------+--------+---------+--------------+---------------+
//
// All numbers are big-endian; length counts what follows it. File bytes are
// payload: they are never copied through CBOR, and an answer's are read from the
// socket into the caller's own buffer.
//
// # Flow
//
// The reading side never waits for a handler: each request runs on its own
// goroutine, and how many there may be, and how many payload bytes they may hold,
// was told to the peer in the hello. The caller keeps to it by waiting; a peer that
// doesn't keep to it loses the connection. Calls that others wait for (giving back
// a lease) are Urgent: they have slots of their own, so that calls which wait for
// them cannot take the last one.
//
// A large frame holds up the small ones behind it for as long as the wire needs
// for it: frames are not cut into pieces.
package rpc
