package replica

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
	"twofold/metadata/kv"
)

// snapSink makes one snapshot: of a cut of our own index (adopt), or of a stream
// from the leader (Write). Close makes it durable and publishes it.
type snapSink struct {
	store *snapStore
	meta  *snapMeta

	cut *kv.Cut // of our own index
	dir string  // where the snapshot is made

	pipe *io.PipeWriter // of the leader's stream
	done chan error     // its end
}

var _ raft.SnapshotSink = (*snapSink)(nil)

// ID implements raft.SnapshotSink.
func (k *snapSink) ID() string { return k.meta.id() }

// adopt makes the snapshot of a cut, which it owns from now on.
func (k *snapSink) adopt(cut *kv.Cut, dir string, applied uint64) {
	k.cut, k.dir, k.meta.Applied = cut, dir, applied
}

// Write implements io.Writer: the stream of a leader's snapshot.
func (k *snapSink) Write(p []byte) (int, error) {
	if k.pipe == nil {
		k.dir = k.store.tempDir()
		if err := os.Mkdir(k.dir, 0o700); err != nil {
			return 0, err
		}
		r, w := io.Pipe()
		k.pipe, k.done = w, make(chan error, 1)
		go func() {
			err := unpack(r, k.dir)
			r.CloseWithError(err) // nil: what is written behind the end is an error
			k.done <- err
		}()
	}
	return k.pipe.Write(p)
}

// Cancel implements raft.SnapshotSink.
func (k *snapSink) Cancel() error {
	if k.pipe != nil {
		k.pipe.CloseWithError(errs.Newf("replica.snapshots", errs.Canceled, "the transfer was given up"))
		<-k.done
		k.pipe = nil
	}
	if k.cut != nil {
		k.cut.Discard()
		k.cut = nil
	}
	if k.dir == "" {
		return nil
	}
	return os.RemoveAll(k.dir)
}

// Close implements raft.SnapshotSink: the snapshot is durable when it returns nil.
func (k *snapSink) Close() error {
	err := k.finish()
	if errs.Is(err, errs.Exists) {
		return k.Cancel()
	}
	if err != nil {
		return errors.Join(errs.E("replica.snapshots", errs.Other, err), k.Cancel())
	}
	return nil
}

func (k *snapSink) finish() error {
	switch {
	case k.cut != nil:
		if err := k.writeMeta(); err != nil {
			return err
		}
		if err := k.cut.Sync(); err != nil {
			return err
		}
	case k.pipe != nil:
		k.pipe.Close()
		err := <-k.done
		k.pipe = nil
		if err != nil {
			return err
		}
		if err := k.accept(); err != nil {
			return err
		}
	default:
		return errs.Newf("replica.snapshots", errs.Corrupt, "an empty snapshot")
	}
	if err := k.store.publish(k.dir, k.meta); err != nil {
		return err
	}
	if k.cut != nil {
		k.store.keep(k.cut)
		k.cut = nil
	}
	return nil
}

// accept checks a snapshot that came as a stream and makes it durable under our
// own META: the leader's has the same content, but for how far its index had got.
func (k *snapSink) accept() error {
	if err := kv.VerifyCheckpoint(k.dir); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(k.dir, snapMetaName))
	if err != nil {
		return err
	}
	theirs, err := decodeSnapMeta(raw)
	if err != nil {
		return err
	}
	if theirs.Index != k.meta.Index || theirs.Term != k.meta.Term {
		return errs.Newf("replica.snapshots", errs.Corrupt, "a stream of snapshot %s in the place of %s", theirs.id(), k.meta.id())
	}
	k.meta.Applied = theirs.Applied
	if err := k.writeMeta(); err != nil {
		return err
	}
	return kv.SyncCheckpoint(k.dir)
}

func (k *snapSink) writeMeta() error {
	raw, err := json.Marshal(k.meta)
	if err != nil {
		return err
	}
	return writeSync(filepath.Join(k.dir, snapMetaName), raw)
}
