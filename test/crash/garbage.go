package crash

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"twofold"
	"twofold/cluster/node"
	"twofold/engine/placement"
	"twofold/metadata"
	"twofold/metadata/fsm"
)

// collectTime is how long collection may take to find everything.
const collectTime = 40 * time.Second

// collected stops the server, and opens the store in this process, with the same
// code, to look inside: that the metadata holds together, and that in time the
// drives hold the shards of live blobs, all of them and nothing else. Then it starts
// the server again.
func (r *rig) collected() {
	r.t.Helper()
	r.abortUploads()
	r.setUp(false)
	if !r.run.stop(opTimeout) {
		r.t.Fatalf("the server does not stop")
	}
	n := r.openNode()
	err := n.Volume().Meta.View(context.Background(), fsm.Check)
	if err != nil {
		r.violation("the metadata does not hold together: %v", err)
	}
	var why string
	for end := time.Now().Add(collectTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if why = r.garbage(n); why == "" {
			break
		}
	}
	if why != "" {
		r.violation("the drives don't hold exactly what is alive, after %v: %s", collectTime, why)
	}
	if err := n.Close(context.Background()); err != nil {
		r.t.Errorf("closing the store: %v", err)
	}
	r.run.start()
	r.await()
	r.setUp(true)
}

func (r *rig) openNode() *node.Node {
	r.t.Helper()
	layout, err := placement.New(r.srv.Args, placement.Classes{})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	n, err := node.Open(ctx, node.Options{Layout: layout, Logger: slog.New(slog.DiscardHandler), Say: func(string) {}})
	if err != nil {
		r.t.Fatalf("the store can't be opened: %v", err)
	}
	return n
}

// shards lists the shard files: how many there are of each blob.
func (r *rig) shards() map[string]int {
	out := map[string]int{}
	for _, d := range r.srv.Drives {
		filepath.WalkDir(filepath.Join(d, "blobs"), func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				out[e.Name()]++
			}
			return nil
		})
	}
	return out
}

// garbage reports what is on the drives and should not be, or the other way round.
func (r *rig) garbage(n *node.Node) string {
	var waiting int
	if err := n.Volume().Meta.View(context.Background(), func(v metadata.View) error {
		orphans, err := v.Orphans(0, 1)
		if err != nil {
			return err
		}
		trash, err := v.Trash(twofold.BlobID{}, 1)
		waiting = len(orphans) + len(trash)
		return err
	}); err != nil {
		return err.Error()
	}
	if waiting > 0 {
		return "inodes without links, or dead blobs, wait to be collected"
	}
	for name, count := range r.shards() {
		id, err := twofold.ParseBlobID(name)
		if err != nil {
			return "a file " + name
		}
		wanted, err := n.Volume().Wanted(context.Background(), id)
		if err != nil {
			return err.Error()
		}
		if !wanted {
			return fmt.Sprintf("%d shards of blob %s, to which nothing refers", count, name)
		}
		if count != len(r.srv.Drives) {
			return fmt.Sprintf("blob %s has %d shards", name, count)
		}
	}
	for _, d := range r.srv.Drives {
		if tmp, _ := filepath.Glob(filepath.Join(d, "tmp", "*")); len(tmp) > 0 {
			return "left over: " + tmp[0]
		}
	}
	return ""
}

// abortUploads ends the uploads that a kill left unfinished: until somebody does,
// their parts are alive.
func (r *rig) abortUploads() {
	ctx, cancel := context.WithTimeout(context.Background(), opTimeout)
	defer cancel()
	out, err := r.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	if err != nil {
		r.t.Errorf("listing uploads: %v", err)
		return
	}
	for _, u := range out.Uploads {
		if _, err := r.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: u.Key, UploadId: u.UploadId}); err != nil {
			r.t.Errorf("aborting an upload: %v", err)
		}
	}
}

// finish is the end of a campaign: everything is verified, garbage is collected,
// everything is read again, deleted, and nothing is left.
func (l *load) finish() {
	l.r.t.Helper()
	l.verify()
	l.r.collected()
	l.verify()
	if l.r.failed() {
		l.r.t.FailNow()
	}
	keys, err := l.r.list("")
	if err != nil {
		l.r.t.Fatal(err)
	}
	for i := len(keys) - 1; i >= 0; i-- { // directories after what is in them
		if err := l.r.remove(*keys[i].Key); err != nil {
			l.r.t.Fatal(err)
		}
	}
	l.r.collected()
	if left := l.r.shards(); len(left) > 0 {
		l.r.violation("everything is deleted, and there are shards of %d blobs", len(left))
	}
	fmt.Fprintf(os.Stderr, "finished: %s; %d keys deleted, nothing left on the drives\n", l.counts(), len(keys))
}
