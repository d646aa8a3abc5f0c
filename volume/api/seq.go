package api

import "context"

// Seq numbers a changing call within its session, so that a call that comes twice
// (the connection broke, the answer was lost) has its effect once. It becomes
// metadata.Command's Seq and Acked.
type Seq struct {
	N     uint64 // from 1, without gaps
	Acked uint64 // no call with a number below this one will come again
}

type seqKey struct{}

// WithSeq returns a context whose call is number s of its session.
func WithSeq(ctx context.Context, s Seq) context.Context {
	return context.WithValue(ctx, seqKey{}, s)
}

// SeqOf returns the number of the call; ok is false where it has none (calls that
// change nothing, and calls made in the server's own process).
func SeqOf(ctx context.Context) (s Seq, ok bool) {
	s, ok = ctx.Value(seqKey{}).(Seq)
	return s, ok
}
