package fsm

import (
	"errors"
	"fmt"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

// refusal is a command's failure: part of the history, the same on every replica.
type refusal struct {
	kind errs.Kind
	msg  string
	id   uint64 // Result.ID
}

func (r *refusal) Error() string {
	if r.msg != "" {
		return r.msg
	}
	return r.kind.String()
}

func refuse(k errs.Kind) error { return &refusal{kind: k} }

func refusef(k errs.Kind, format string, args ...any) error {
	return &refusal{kind: k, msg: fmt.Sprintf(format, args...)}
}

// applier runs the commands of a batch.
type applier struct {
	state
	*txn
	machine *Machine

	// Of the command under way:
	cmd    *metadata.Command
	inodes map[twofold.Ino]held
	made   twofold.Ino // the first inode that it made, 0: none; those behind it are its own as well
	named  []name      // entries that came, went or changed; only noted where there is a guard
	claims claims
	growth map[twofold.BucketID]share // of the buckets' counts
	// unbounded: a quota does not refuse it
	unbounded bool
	given     twofold.Ino // the number that the next new inode gets; 0: one that nobody has
	leaving   bool        // the inode that it changes goes
	batched   bool        // it is several operations: a blob may come and go within it
}

func (a *applier) get(key string) ([]byte, error) { return a.txn.get(key) }

func (a *applier) scan(start, end string, fn func(key, value []byte) (bool, error)) error {
	return a.txn.scan(start, end, fn)
}

// apply runs one command in its session. The error is fatal to the replica.
func (a *applier) apply(c *metadata.Command) (*metadata.Result, error) {
	if c.Session == 0 {
		return a.outside(c)
	}
	w, err := a.window(c.Session)
	if err != nil {
		return nil, err
	}
	a.begin()
	if res, err := a.before(w, c); res != nil || err != nil {
		return res, err
	}
	if c.Writer != c.Session {
		// A late copy from a server that was replaced says nothing about the command: the
		// mount that it belongs to sends it by the next server, under the same number.
		var r *refusal
		if err := a.fenced(c); errors.As(err, &r) {
			return failed(r), nil
		} else if err != nil {
			return nil, err
		}
	}
	res, err := a.run(c)
	if err != nil || res.Unguarded != nil {
		return res, err // an unguarded one comes again
	}
	return res, a.keep(w, c, res)
}

// outside runs the commands that belong to no session. Nothing is kept of them.
func (a *applier) outside(c *metadata.Command) (*metadata.Result, error) {
	switch c.Op {
	case metadata.OpBeginSession, metadata.OpNop:
		return a.run(c)
	}
	return failed(&refusal{kind: errs.Fenced, msg: "no session"}), nil
}

func failed(r *refusal) *metadata.Result {
	return &metadata.Result{Failed: true, Kind: r.kind, Msg: r.msg, ID: r.id}
}

// run executes a command, all or nothing.
func (a *applier) run(c *metadata.Command) (*metadata.Result, error) {
	a.begin()
	a.cmd, a.made, a.named = c, 0, a.named[:0]
	clear(a.inodes)
	a.claims.reset()
	clear(a.growth)
	a.unbounded, a.given, a.batched = false, 0, false
	err := a.fenced(c)
	var res *metadata.Result
	if err == nil {
		res, err = a.dispatch(c)
	}
	if err == nil && c.Guard != nil {
		if missing := a.unguarded(c.Guard); missing != nil {
			a.rollback()
			return &metadata.Result{Failed: true, Kind: errs.Conflict, Msg: "it would change what its guard does not have", Unguarded: missing}, nil
		}
	}
	if err == nil {
		err = a.flush()
	}
	if err == nil && a.large {
		err = refusef(errs.TooLarge, "a record of more than %d bytes", maxRecord)
	}
	if err == nil {
		return res, nil
	}
	var r *refusal
	if !errors.As(err, &r) {
		return nil, err
	}
	a.rollback()
	return failed(r), nil
}

// fenced refuses a command whose blobs were written by a session that has ended:
// collection may have taken them.
func (a *applier) fenced(c *metadata.Command) error {
	if c.Writer == 0 {
		return nil
	}
	w, err := a.window(c.Writer)
	if err == nil && !w.alive() {
		err = refusef(errs.Fenced, "session %d of the writer has ended", c.Writer)
	}
	return err
}

func (a *applier) dispatch(c *metadata.Command) (*metadata.Result, error) {
	switch b := c.Body.(type) {
	case *metadata.PutObject:
		return a.putObject(b)
	case *metadata.DeleteObject:
		return a.deleteObject(b)
	case *metadata.CopyObject:
		return a.copyObject(b)
	case *metadata.Create:
		return a.create(b)
	case *metadata.Link:
		return a.link(b)
	case *metadata.Unlink:
		return a.unlink(b)
	case *metadata.Rmdir:
		return a.rmdir(b)
	case *metadata.Rename:
		return a.rename(b)
	case *metadata.SetAttr:
		return a.setAttr(b)
	case *metadata.Write:
		return a.write(b)
	case *metadata.Tmpfile:
		return a.tmpfile(b)
	case *metadata.CopyRange:
		return a.copyRange(b)
	case *metadata.Batch:
		return a.batch(b)
	case *metadata.SetXattrs:
		return a.setXattrs(b)
	case *metadata.SetACL:
		return a.setACL(b)
	case *metadata.CreateUpload:
		return a.createUpload(b)
	case *metadata.PutPart:
		return a.putPart(b)
	case *metadata.CompleteUpload:
		return a.completeUpload(b)
	case *metadata.AbortUpload:
		return a.abortUpload(b)
	}
	return a.dispatchUpkeep(c)
}

func (a *applier) dispatchUpkeep(c *metadata.Command) (*metadata.Result, error) {
	switch b := c.Body.(type) {
	case *metadata.BeginSession:
		return a.beginSession(b)
	case *metadata.EndSession:
		return a.endSession(b)
	case *metadata.ForgetSession:
		return a.forgetSession(b)
	case *metadata.Revoke:
		return a.revoke(b)
	case *metadata.CreateBucket:
		return a.createBucket(b)
	case *metadata.DeleteBucket:
		return a.deleteBucket(b)
	case *metadata.FreeInode:
		return a.freeInode(b)
	case *metadata.FreeInodes:
		return a.freeInodes(b)
	case *metadata.TrashDone:
		return a.trashDone(b)
	case *metadata.ReplaceExtents:
		return a.replaceExtents(b)
	case *metadata.Compacted:
		return a.compacted(b)
	case *metadata.CountUsage:
		return a.countUsage(b)
	case *metadata.SetQuota:
		return a.setQuota(b)
	case *metadata.Reserve:
		return a.reserve(b)
	case *metadata.ReserveInos:
		return a.reserveInos(b)
	case *metadata.SetConfig:
		return a.setConfig(b)
	case *metadata.Nop:
		return &metadata.Result{}, nil
	}
	return nil, fmt.Errorf("operation %d has no handler", c.Op)
}
