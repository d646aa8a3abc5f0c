package fsm

import (
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
)

func (a *applier) createBucket(c *metadata.CreateBucket) (*metadata.Result, error) {
	// The rules of S3 for names are the front end's; these keep the state sound.
	if c.Name == "" || len(c.Name) > twofold.MaxNameLen || strings.ContainsAny(string(c.Name), "/\x00") {
		return nil, refuse(errs.BadBucketName)
	}
	if b, err := a.bucket(c.Name); err != nil || b != nil {
		if err == nil {
			err = refuse(errs.BucketExists)
		}
		return nil, err
	}
	id, err := a.next(keyNextBucket, 1)
	if err != nil {
		return nil, err
	}
	b := &metadata.Bucket{ID: twofold.BucketID(id), Name: c.Name, Created: a.cmd.Now, Region: c.Region}
	root, err := a.newInode(b.ID, metadata.TypeDir)
	if err != nil {
		return nil, err
	}
	root.Parent, root.Name, root.Explicit = twofold.RootIno, string(c.Name), true
	if err := a.setPosix(root, c.Posix); err != nil {
		return nil, err
	}
	b.Root = root.Ino
	v, err := metadata.EncodeBucket(b)
	if err != nil {
		return nil, err
	}
	a.set(bucketKey(b.Name), v)
	a.set(bucketIDKey(b.ID), []byte(b.Name))
	return &metadata.Result{Bucket: b, Inode: root}, nil
}

func (a *applier) deleteBucket(c *metadata.DeleteBucket) (*metadata.Result, error) {
	b, err := a.bucket(c.Name)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, refuse(errs.NoBucket)
	}
	root, err := a.mustLoad(b.Root)
	if err != nil {
		return nil, err
	}
	if root.Children > 0 {
		return nil, refuse(errs.BucketNotEmpty)
	}
	more, err := a.abortUploads(b.ID)
	if err != nil || more {
		return &metadata.Result{Bucket: b, Inode: root, More: more}, err
	}
	a.del(bucketKey(b.Name))
	a.del(bucketIDKey(b.ID))
	a.del(usageKey(b.ID))
	a.removed(root)
	return &metadata.Result{Bucket: b, Inode: root}, nil
}
