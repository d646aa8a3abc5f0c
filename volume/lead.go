package volume

import (
	"context"

	"twofold/internal/errs"
	"twofold/metadata"
)

// With several nodes one of them leads, and has the only open Volume. What becomes of it when
// another one leads:
//
//	what it sends     a command is refused by the state machine: the next Volume has ended
//	                  this one's session before it did anything
//	what it reads     a View is of a proven leader; observe looks once more behind it
//	what it knows     leases, locks, opens, promises, answers kept by number: all of that
//	                  leaves by an answer to a mount (volume/remote), which is not sent
//	                  unless Leads is true then
//
// No answer to S3 is from memory alone: each of api.Objects' methods comes to a View or a
// command after it was called. What they have from memory beside it is how to name things
// (Volume.bucket; the command says when it is wrong) and that no mount holds anything back
// (observe, exclusions). The latter is true of every state that this leadership proved, because
// the next one grants nothing before the mounts of this one are back, or had a term of silence,
// and this one's last keep-alive was answered before the next began.
//
// Blobs that were written here and whose command is refused are garbage of an ended session.

// Leads reports whether this volume may answer from memory now.
func (v *Volume) Leads() bool {
	return v.abandoned.Err() == nil && (v.Options.Leads == nil || v.Options.Leads())
}

// Done is closed when the volume closes or is abandoned: requests should end.
func (v *Volume) Done() <-chan struct{} { return v.ctx.Done() }

// Abandon ends everything at once, where another node leads, or may: nothing is read or
// committed any more, who waits is told errs.Unavailable (errs.UnknownOutcome of a command that
// was under way), and the mounts' connections are closed, with nothing said. Their sessions go on
// at the next leader. It returns when no work of the volume's own runs any more; requests in
// flight may come back a moment later. Close is not called then.
func (v *Volume) Abandon() {
	v.abandon()
	v.mu.Lock()
	for _, s := range v.sessions {
		s.leave()
	}
	v.mu.Unlock()
	v.end()
}

// leading is the metadata until the volume is abandoned.
type leading struct {
	metadata.Store
	v *Volume
}

func (l *leading) over() error {
	if l.v.abandoned.Err() != nil {
		return errs.Newf("volume", errs.Unavailable, "this node does not lead any more")
	}
	return nil
}

// until is ctx that ends with Abandon.
func (l *leading) until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.v.abandoned, cancel)
	return ctx, func() { stop(); cancel() }
}

// Apply implements metadata.Store.
func (l *leading) Apply(ctx context.Context, c *metadata.Command) (*metadata.Result, error) {
	if err := l.over(); err != nil {
		return nil, err
	}
	ctx, end := l.until(ctx)
	defer end()
	return l.Store.Apply(ctx, c)
}

// View implements metadata.Store.
func (l *leading) View(ctx context.Context, fn func(metadata.View) error) error {
	if err := l.over(); err != nil {
		return err
	}
	ctx, end := l.until(ctx)
	defer end()
	return l.Store.View(ctx, fn)
}
