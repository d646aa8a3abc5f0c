package fusefs

import (
	"context"

	"twofold"
	"twofold/internal/errs"
	"twofold/volume/api"
)

// readOnly is api.Files that refuses every change with errs.ReadOnly, also after
// somebody has told the kernel to `mount -o remount,rw`: the kernel doesn't ask us then.
type readOnly struct{ api.Files }

func readOnlyError(op string) error {
	return errs.Newf("fusefs."+op, errs.ReadOnly, "the mount is read-only")
}

func (readOnly) SetAttr(context.Context, twofold.Ino, api.SetAttr) (api.Attr, error) {
	return api.Attr{}, readOnlyError("SetAttr")
}

func (readOnly) Create(context.Context, twofold.Ino, string, api.Create) (api.Attr, bool, error) {
	return api.Attr{}, false, readOnlyError("Create")
}

func (readOnly) Link(context.Context, twofold.Ino, twofold.Ino, string) (api.Attr, error) {
	return api.Attr{}, readOnlyError("Link")
}

func (readOnly) Unlink(context.Context, twofold.Ino, string) error { return readOnlyError("Unlink") }

func (readOnly) Rmdir(context.Context, twofold.Ino, string) error { return readOnlyError("Rmdir") }

func (readOnly) Rename(context.Context, twofold.Ino, string, twofold.Ino, string, uint32) error {
	return readOnlyError("Rename")
}

func (readOnly) Tmpfile(context.Context, twofold.Ino, api.Create) (api.Attr, error) {
	return api.Attr{}, readOnlyError("Tmpfile")
}

func (readOnly) Write(context.Context, twofold.Ino, api.Write) (api.Attr, error) {
	return api.Attr{}, readOnlyError("Write")
}

func (readOnly) CopyRange(context.Context, api.CopyRange) (api.Attr, int64, error) {
	return api.Attr{}, 0, readOnlyError("CopyRange")
}

func (readOnly) AcquireWrite(context.Context, twofold.Ino) (api.Lease, error) {
	return api.Lease{}, readOnlyError("AcquireWrite")
}

func (readOnly) SetXattr(context.Context, twofold.Ino, string, []byte, uint32) error {
	return readOnlyError("SetXattr")
}

func (readOnly) RemoveXattr(context.Context, twofold.Ino, string) error {
	return readOnlyError("RemoveXattr")
}

func (readOnly) Reserve(context.Context, twofold.Ino, uint64, int64, int64) (int64, error) {
	return 0, readOnlyError("Reserve")
}

func (readOnly) Promise(context.Context, int64) (int64, error) { return 0, readOnlyError("Promise") }

func (readOnly) AcquireDir(context.Context, twofold.Ino) (api.DirLease, error) {
	return api.DirLease{}, readOnlyError("AcquireDir")
}

func (readOnly) Inos(context.Context, int) (twofold.Ino, int, error) {
	return 0, 0, readOnlyError("Inos")
}

func (readOnly) Batch(context.Context, api.Batch) (api.BatchResult, error) {
	return api.BatchResult{Failed: -1}, readOnlyError("Batch")
}
