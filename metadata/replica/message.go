package replica

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/raft"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// Messages between processes. All begin with their version and the drive of the
// replica that sends them; answers have neither. Numbers are big-endian.
//
//	u8 version | 16 bytes drive | body
//
//	append, beat  u64 stream | u64 place | u64 term | u64 previous index | u64 its term |
//	              u64 commit | u32 count | entries
//	  entry       u64 term | u8 type | i64 appended at, ns | u32 length | data
//	  answer      u64 term | u64 last index | u8 flags: 1 success, 2 no backoff
//	vote, prevote u64 term | u64 last index | u64 its term | u8 flags: 1 transfer
//	  answer      u64 term | u8 granted
//	timeout       nothing; answer: nothing
//	snapshot open u64 transfer | u8 version | u64 term | u64 last index | u64 its term |
//	              u64 index of the configuration | u64 size | u32 length | configuration
//	  data        u64 transfer | u64 offset | bytes
//	  end         u64 transfer; answer: u8 ended | u64 term | u8 success
//	promise       u64 term | u64 round; answer: u8 given | u64 last index | u64 applied
//	release       u64 term | u64 round; answer: nothing
//	ask           u8 what | 16 bytes drive; answer: u64 commit index
//	where         nothing; answer: 16 bytes drive | u64 term
const wireVersion = 1

const (
	maxEntries   = 1024      // of one message
	maxSnapData  = 256 << 10 // bytes of one message
	partBytes    = 1 << 20   // of the entries of one message, or one entry
	entryHead    = 8 + 1 + 8 + 4
	maxConfig    = 64 << 10 // bytes of an encoded configuration
	maxConfigLen = 64       // servers
)

type encoder struct{ b []byte }

func newMessage(from twofold.DriveID, size int) *encoder {
	e := &encoder{make([]byte, 0, 17+size)}
	e.u8(wireVersion)
	e.drive(from)
	return e
}

func (e *encoder) u8(v uint8)              { e.b = append(e.b, v) }
func (e *encoder) u32(v int)               { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) u64(v uint64)            { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) drive(d twofold.DriveID) { e.b = append(e.b, d[:]...) }
func (e *encoder) flags(list ...bool) {
	var v uint8
	for i, f := range list {
		if f {
			v |= 1 << i
		}
	}
	e.u8(v)
}

// decoder reads a message. After a read beyond the end it yields zeros, and done fails.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u32() int {
	if v := d.take(4); v != nil {
		return int(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) drive() (id twofold.DriveID) {
	copy(id[:], d.take(len(id)))
	return id
}

// flags fails on bits beyond the first n.
func (d *decoder) flags(n int) uint8 {
	v := d.u8()
	d.bad = d.bad || v>>n != 0
	return v
}

// done fails unless everything was there, and nothing else.
func (d *decoder) done() error {
	if d.bad || len(d.b) > 0 {
		return errs.Newf("replica.decode", errs.Invalid, "a message that is too short, too long or senseless")
	}
	return nil
}

// open reads what every message begins with.
func openMessage(msg []byte) (d *decoder, from twofold.DriveID, err error) {
	d = &decoder{b: msg}
	if v := d.u8(); v != wireVersion {
		return nil, from, errs.Newf("replica.decode", errs.Unsupported, "a message of version %d, this program knows %d", v, wireVersion)
	}
	from = d.drive()
	if d.bad || from.IsZero() {
		return nil, from, errs.Newf("replica.decode", errs.Invalid, "a message from nobody")
	}
	return d, from, nil
}

func addressOf(id twofold.DriveID) raft.ServerAddress { return raft.ServerAddress(id.String()) }

func headerOf(id twofold.DriveID) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id.String()), Addr: []byte(id.String())}
}

// part is one message's share of a request: entries[from:to].
type part struct{ from, to int }

// parts divides a request's entries among messages of about 1 MiB. There is one at least.
func parts(r *raft.AppendEntriesRequest) []part {
	var list []part
	p, size := part{}, 0
	for i, e := range r.Entries {
		n := entryHead + len(e.Data)
		if i > p.from && (size+n > partBytes || i-p.from == maxEntries) {
			list, p, size = append(list, part{p.from, i}), part{from: i}, 0
		}
		size += n
	}
	return append(list, part{p.from, len(r.Entries)})
}

// encodeAppend encodes a part of a request. The commit index goes no further than the
// entries: the library takes it for all that its log has, which may be what another
// leader left there.
func encodeAppend(from twofold.DriveID, r *raft.AppendEntriesRequest, p part, stream, place uint64) []byte {
	entries := r.Entries[p.from:p.to]
	size := 7*8 + 4
	for _, e := range entries {
		size += entryHead + len(e.Data)
	}
	prev, prevTerm := r.PrevLogEntry, r.PrevLogTerm
	if p.from > 0 {
		prev, prevTerm = r.Entries[p.from-1].Index, r.Entries[p.from-1].Term
	}
	m := newMessage(from, size)
	for _, v := range [...]uint64{stream, place, r.Term, prev, prevTerm, min(r.LeaderCommitIndex, prev+uint64(len(entries)))} {
		m.u64(v)
	}
	m.u32(len(entries))
	for _, e := range entries {
		m.u64(e.Term)
		m.u8(uint8(e.Type))
		m.u64(uint64(e.AppendedAt.UnixNano()))
		m.u32(len(e.Data))
		m.b = append(m.b, e.Data...)
	}
	return m.b
}

// appended is a message with entries.
type appended struct {
	stream, place uint64
	req           *raft.AppendEntriesRequest
}

// decodeAppend decodes and checks. The entries' bytes are copies.
func decodeAppend(msg []byte) (a appended, err error) {
	d, from, err := openMessage(msg)
	if err != nil {
		return a, err
	}
	a.stream, a.place = d.u64(), d.u64()
	r := &raft.AppendEntriesRequest{
		RPCHeader: headerOf(from), Term: d.u64(), PrevLogEntry: d.u64(), PrevLogTerm: d.u64(), LeaderCommitIndex: d.u64(),
	}
	n := d.u32()
	if n > maxEntries || n*entryHead > len(d.b) || r.Term == 0 || r.PrevLogTerm > r.Term ||
		r.PrevLogEntry > 1<<62 || r.LeaderCommitIndex > r.PrevLogEntry+uint64(n) || (r.PrevLogEntry == 0) != (r.PrevLogTerm == 0) {
		d.bad = true
	}
	if d.bad {
		return a, d.done()
	}
	all := append([]byte(nil), d.b...)
	d.b = all
	r.Leader = r.RPCHeader.Addr
	r.Entries = make([]*raft.Log, n)
	term := r.PrevLogTerm
	for i := range r.Entries {
		l := &raft.Log{Index: r.PrevLogEntry + uint64(i) + 1, Term: d.u64(), Type: raft.LogType(d.u8())}
		l.AppendedAt = time.Unix(0, int64(d.u64()))
		l.Data = d.take(d.u32())
		if d.bad || l.Term < term || l.Term > r.Term || !entrySound(l) {
			d.bad = true
			return a, d.done()
		}
		term = l.Term
		r.Entries[i] = l
	}
	a.req = r
	return a, d.done()
}

// entrySound refuses what the library would panic over.
func entrySound(l *raft.Log) bool {
	switch l.Type {
	case raft.LogCommand:
		return len(l.Data) <= metadata.MaxCommandLen
	case raft.LogNoop, raft.LogBarrier:
		return len(l.Data) == 0
	case raft.LogConfiguration:
		_, err := decodeConfig(l.Data)
		return err == nil
	}
	return false
}

// decodeConfig decodes a configuration; the library's own function panics.
func decodeConfig(b []byte) (c raft.Configuration, err error) {
	bad := errs.Newf("replica.decode", errs.Invalid, "a configuration that makes no sense")
	defer func() {
		if recover() != nil {
			err = bad
		}
	}()
	if len(b) > maxConfig {
		return c, bad
	}
	c = raft.DecodeConfiguration(b)
	if len(c.Servers) == 0 || len(c.Servers) > maxConfigLen {
		return c, bad
	}
	seen := map[raft.ServerID]bool{}
	for _, s := range c.Servers {
		if driveOf(s.ID).IsZero() || string(s.ID) != string(s.Address) || seen[s.ID] || s.Suffrage > raft.Staging {
			return c, bad
		}
		seen[s.ID] = true
	}
	return c, nil
}

func encodeAppended(r *raft.AppendEntriesResponse) []byte {
	e := &encoder{make([]byte, 0, 17)}
	e.u64(r.Term)
	e.u64(r.LastLog)
	e.flags(r.Success, r.NoRetryBackoff)
	return e.b
}

func decodeAppended(b []byte, r *raft.AppendEntriesResponse) error {
	d := &decoder{b: b}
	*r = raft.AppendEntriesResponse{Term: d.u64(), LastLog: d.u64()}
	f := d.flags(2)
	r.Success, r.NoRetryBackoff = f&1 != 0, f&2 != 0
	return d.done()
}

// ballot is a request for a vote or, before that, for one that doesn't count yet.
type ballot struct {
	term, index, last uint64 // last: the term of the entry at index
	transfer          bool
}

func encodeBallot(from twofold.DriveID, b ballot) []byte {
	m := newMessage(from, 25)
	m.u64(b.term)
	m.u64(b.index)
	m.u64(b.last)
	m.flags(b.transfer)
	return m.b
}

func decodeBallot(msg []byte) (b ballot, from twofold.DriveID, err error) {
	d, from, err := openMessage(msg)
	if err != nil {
		return b, from, err
	}
	b = ballot{term: d.u64(), index: d.u64(), last: d.u64()}
	b.transfer = d.flags(1) != 0
	d.bad = d.bad || b.term == 0 || b.last > b.term
	return b, from, d.done()
}

func encodeVoted(term uint64, granted bool) []byte {
	e := &encoder{make([]byte, 0, 9)}
	e.u64(term)
	e.flags(granted)
	return e.b
}

func decodeVoted(b []byte) (term uint64, granted bool, err error) {
	d := &decoder{b: b}
	term, granted = d.u64(), d.flags(1) != 0
	return term, granted, d.done()
}

func encodeSnapOpen(from twofold.DriveID, transfer uint64, r *raft.InstallSnapshotRequest) []byte {
	m := newMessage(from, 64+len(r.Configuration))
	m.u64(transfer)
	m.u8(uint8(r.SnapshotVersion))
	for _, v := range [...]uint64{r.Term, r.LastLogIndex, r.LastLogTerm, r.ConfigurationIndex, uint64(r.Size)} {
		m.u64(v)
	}
	m.u32(len(r.Configuration))
	m.b = append(m.b, r.Configuration...)
	return m.b
}

func decodeSnapOpen(msg []byte) (transfer uint64, r *raft.InstallSnapshotRequest, err error) {
	d, from, err := openMessage(msg)
	if err != nil {
		return 0, nil, err
	}
	transfer = d.u64()
	r = &raft.InstallSnapshotRequest{
		RPCHeader: headerOf(from), SnapshotVersion: raft.SnapshotVersion(d.u8()), Term: d.u64(),
		LastLogIndex: d.u64(), LastLogTerm: d.u64(), ConfigurationIndex: d.u64(), Size: int64(d.u64()),
	}
	r.Leader = r.RPCHeader.Addr
	r.Configuration = append([]byte(nil), d.take(d.u32())...)
	if d.bad || transfer == 0 || r.Term == 0 || r.LastLogIndex == 0 || r.LastLogTerm > r.Term || r.Size <= 0 ||
		r.SnapshotVersion < raft.SnapshotVersionMin || r.SnapshotVersion > raft.SnapshotVersionMax {
		d.bad = true
		return 0, nil, d.done()
	}
	if _, err := decodeConfig(r.Configuration); err != nil {
		return 0, nil, err
	}
	return transfer, r, d.done()
}

func encodeSnapData(from twofold.DriveID, transfer, offset uint64, data []byte) []byte {
	m := newMessage(from, 16+len(data))
	m.u64(transfer)
	m.u64(offset)
	m.b = append(m.b, data...)
	return m.b
}

func encodeSnapEnd(from twofold.DriveID, transfer uint64) []byte {
	m := newMessage(from, 8)
	m.u64(transfer)
	return m.b
}

// installed is the outcome of a transfer.
type installed struct {
	ended   bool
	term    uint64
	success bool
}

func encodeInstalled(i installed) []byte {
	e := &encoder{make([]byte, 0, 10)}
	e.flags(i.ended)
	e.u64(i.term)
	e.flags(i.success)
	return e.b
}

func decodeInstalled(b []byte) (i installed, err error) {
	d := &decoder{b: b}
	i.ended = d.flags(1) != 0
	i.term = d.u64()
	i.success = d.flags(1) != 0
	return i, d.done()
}

// encodePromise encodes a request for a promise, or a release.
func encodePromise(from twofold.DriveID, term, round uint64) []byte {
	m := newMessage(from, 16)
	m.u64(term)
	m.u64(round)
	return m.b
}

func decodePromise(msg []byte) (term, round uint64, err error) {
	d, _, err := openMessage(msg)
	if err != nil {
		return 0, 0, err
	}
	term, round = d.u64(), d.u64()
	d.bad = d.bad || term == 0 || round == 0
	return term, round, d.done()
}

// promiseAnswer also says how far the replica is.
type promiseAnswer struct {
	given         bool
	last, applied uint64
}

func (a promiseAnswer) encode() []byte {
	e := &encoder{make([]byte, 0, 17)}
	e.flags(a.given)
	e.u64(a.last)
	e.u64(a.applied)
	return e.b
}

func decodePromiseAnswer(b []byte) (a promiseAnswer, err error) {
	d := &decoder{b: b}
	a.given = d.flags(1) != 0
	a.last, a.applied = d.u64(), d.u64()
	return a, d.done()
}

// request is what a leader is asked for.
type request uint8

const (
	askGoal     request = 1 // how far the log is committed
	askNonvoter request = 2 // add a replica without a vote
	askVoter    request = 3 // give it its vote
	askRemove   request = 4 // take it from the configuration
)

func encodeAsk(from twofold.DriveID, what request, id twofold.DriveID) []byte {
	m := newMessage(from, 17)
	m.u8(uint8(what))
	m.drive(id)
	return m.b
}

func decodeAsk(msg []byte) (what request, id twofold.DriveID, err error) {
	d, _, err := openMessage(msg)
	if err != nil {
		return 0, id, err
	}
	what, id = request(d.u8()), d.drive()
	d.bad = d.bad || what < askGoal || what > askRemove || id.IsZero()
	return what, id, d.done()
}

func encodeWhere(id twofold.DriveID, term uint64) []byte {
	e := &encoder{make([]byte, 0, 24)}
	e.drive(id)
	e.u64(term)
	return e.b
}

func decodeWhere(b []byte) (id twofold.DriveID, term uint64, err error) {
	d := &decoder{b: b}
	id, term = d.drive(), d.u64()
	return id, term, d.done()
}
