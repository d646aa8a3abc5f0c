package drives

import (
	"strings"

	"github.com/zeebo/xxh3"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/engine/drive"
	"twofold/internal/errs"
)

// MethodFirst and MethodLast are the range of methods that a Server serves. They are
// part of the protocol version.
const (
	MethodFirst rpc.Method = 120
	MethodLast  rpc.Method = 149
)

const (
	mTell    rpc.Method = 120 // -> tellAnswer
	mWrite   rpc.Method = 121 // writeRequest, blocks
	mAbort   rpc.Method = 122 // handleRequest: a writer
	mKeep    rpc.Method = 123 // handlesRequest: writers that are still written
	mOpen    rpc.Method = 124 // openRequest -> openAnswer, content
	mRead    rpc.Method = 125 // readRequest -> bytes
	mClose   rpc.Method = 126 // handlesRequest: readers
	mDelete  rpc.Method = 127 // blobRequest
	mWalk    rpc.Method = 128 // walkRequest -> walkAnswer, ids
	mUsage   rpc.Method = 129 // driveRequest -> usage
	mHealing rpc.Method = 130 // healingRequest
	mFormat  rpc.Method = 131 // driveRequest -> drive.Format
	mBad     rpc.Method = 132 // badRequest
)

// sealed is the header of every request and answer: an encoded message and a hash over
// it, the method, and the payload.
type sealed struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
	Sum  uint64 // xxh3-64 of the payload, keyed by that of the body, keyed by the method
}

func sealSum(m rpc.Method, body, payload []byte) uint64 {
	return xxh3.HashSeed(payload, xxh3.HashSeed(body, uint64(m)))
}

// seal encodes a message; nil is an empty one.
func seal(c *rpc.Codec, m rpc.Method, msg any, payload []byte) (sealed, error) {
	body, err := c.Encode(msg)
	if err != nil {
		return sealed{}, err
	}
	return sealed{Body: body, Sum: sealSum(m, body, payload)}, nil
}

// errTorn is what did not arrive as it was sent; it may be asked for again.
var errTorn = errs.Newf("drives", errs.Unavailable, tornText)

// tornText also tells errTorn when it comes from the other end.
const tornText = "bytes were changed on the way between two nodes"

// isTorn reports whether bytes were changed on the way, here or there.
func isTorn(err error) bool { return err != nil && strings.Contains(err.Error(), tornText) }

// open checks the seal and decodes into msg; nil: the message must be empty. errTorn,
// errs.Invalid.
func (s *sealed) open(c *rpc.Codec, m rpc.Method, payload []byte, msg any) error {
	if s.Sum != sealSum(m, s.Body, payload) {
		return errTorn
	}
	if msg == nil {
		if len(s.Body) != 0 {
			return errs.Newf("drives", errs.Invalid, "a message that was not asked for")
		}
		return nil
	}
	return c.Decode(s.Body, msg)
}

// A shard's header, trailer and description as they travel.
type wireHeader struct {
	_       struct{} `cbor:",toarray"`
	Cluster twofold.ClusterID
	Blob    twofold.BlobID
	Set     twofold.SetID
	Index   uint8
	Data    uint8
	Parity  uint8
	Stripe  uint32
	Piece   uint32
	Created twofold.Time
}

func toWire(h drive.ShardHeader) *wireHeader {
	return &wireHeader{Cluster: h.Cluster, Blob: h.Blob, Set: h.Set, Index: h.Index, Data: h.Data, Parity: h.Parity,
		Stripe: h.Stripe, Piece: h.Piece, Created: h.Created}
}

func (w *wireHeader) header() drive.ShardHeader {
	return drive.ShardHeader{Cluster: w.Cluster, Blob: w.Blob, Set: w.Set, Index: w.Index, Data: w.Data, Parity: w.Parity,
		Stripe: w.Stripe, Piece: w.Piece, Created: w.Created}
}

type wireTrailer struct {
	_       struct{} `cbor:",toarray"`
	Size    int64
	Purpose []byte
}

// handle names what is open at the server: chosen by the client, of one connection.
type handle uint64

// driveRequest asks about a drive.
type driveRequest struct {
	Drive twofold.DriveID `cbor:"1,keyasint"`
}

// blobRequest is about a blob's shard on a drive.
type blobRequest struct {
	Drive twofold.DriveID `cbor:"1,keyasint"`
	Blob  twofold.BlobID  `cbor:"2,keyasint"`
}

// writeRequest is a step of a shard's writing: the blocks are the payload, one after the
// other.
type writeRequest struct {
	Drive   twofold.DriveID `cbor:"1,keyasint"`
	Writer  handle          `cbor:"2,keyasint"`
	Seq     uint32          `cbor:"3,keyasint"`           // of the call, from 0, which creates the shard
	Header  *wireHeader     `cbor:"4,keyasint,omitempty"` // with Seq 0, and only there
	Blocks  []uint32        `cbor:"5,keyasint,omitempty"` // their lengths, in bytes
	Trailer *wireTrailer    `cbor:"6,keyasint,omitempty"` // commits
}

// handleRequest is about a handle, handlesRequest about several.
type handleRequest struct {
	Handle handle `cbor:"1,keyasint"`
}

type handlesRequest struct {
	Handles []handle `cbor:"1,keyasint"`
}

// openRequest opens a shard; Reader 0 only describes it.
type openRequest struct {
	Drive  twofold.DriveID `cbor:"1,keyasint"`
	Blob   twofold.BlobID  `cbor:"2,keyasint"`
	Reader handle          `cbor:"3,keyasint,omitempty"`
	Small  uint32          `cbor:"4,keyasint,omitempty"` // up to so many bytes of content are sent along, instead of a handle
}

type openAnswer struct {
	Header  *wireHeader  `cbor:"1,keyasint"`
	Trailer *wireTrailer `cbor:"2,keyasint"`
	Bytes   int64        `cbor:"3,keyasint"`           // of the file
	All     bool         `cbor:"4,keyasint,omitempty"` // the payload is the content; there is no handle
}

// readRequest asks for bytes [From, To) of a block. errs.Stale: the handle is gone.
type readRequest struct {
	Reader handle `cbor:"1,keyasint"`
	Block  int64  `cbor:"2,keyasint"`
	From   uint32 `cbor:"3,keyasint"`
	To     uint32 `cbor:"4,keyasint"`
}

// walkRequest asks for the next ids behind After.
type walkRequest struct {
	Drive twofold.DriveID `cbor:"1,keyasint"`
	Walk  handle          `cbor:"2,keyasint"`
	After twofold.BlobID  `cbor:"3,keyasint"`
	End   bool            `cbor:"4,keyasint,omitempty"` // no more are wanted
}

// walkAnswer goes with the ids, 16 bytes each.
type walkAnswer struct {
	More bool `cbor:"1,keyasint,omitempty"`
}

type usage struct {
	Total uint64 `cbor:"1,keyasint"`
	Free  uint64 `cbor:"2,keyasint"`
}

type healingRequest struct {
	Drive   twofold.DriveID `cbor:"1,keyasint"`
	Healing bool            `cbor:"2,keyasint"`
}

// badRequest says that a shard is missing or bad.
type badRequest struct {
	Drive twofold.DriveID `cbor:"1,keyasint"`
	Blob  twofold.BlobID  `cbor:"2,keyasint"`
	Why   string          `cbor:"3,keyasint"`
}

// tellAnswer is all drives of a node and how they are.
type tellAnswer struct {
	Drives []told `cbor:"1,keyasint"`
}

// told is what a node tells of one of its drives.
type told struct {
	Drive      twofold.DriveID   `cbor:"1,keyasint"`
	Cluster    twofold.ClusterID `cbor:"2,keyasint"`
	State      drive.State       `cbor:"3,keyasint"`
	Healing    bool              `cbor:"4,keyasint,omitempty"`
	FileSystem uint64            `cbor:"5,keyasint,omitempty"` // of the node's; drives that share one share its space
	Usage      *usage            `cbor:"6,keyasint,omitempty"` // not where it isn't known
}
