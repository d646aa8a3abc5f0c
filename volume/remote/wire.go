package remote

import (
	"time"

	"twofold"
	"twofold/cluster/rpc"
	"twofold/metadata"
	"twofold/volume/api"
)

// Methods of protocol version 1. Append, never renumber.
const (
	mBegin  rpc.Method = 1
	mResume rpc.Method = 2
	mAlive  rpc.Method = 3
	mEnd    rpc.Method = 4
	mSettle rpc.Method = 5
	mCache  rpc.Method = 6 // behind Begin or Resume; errs.Unsupported of servers of before read leases

	mLookup       rpc.Method = 16
	mGetAttr      rpc.Method = 17
	mSetAttr      rpc.Method = 18
	mCreate       rpc.Method = 19
	mLink         rpc.Method = 20
	mUnlink       rpc.Method = 21
	mRmdir        rpc.Method = 22
	mRename       rpc.Method = 23
	mReadlink     rpc.Method = 24
	mReadDir      rpc.Method = 25
	mOpen         rpc.Method = 26
	mRelease      rpc.Method = 27
	mRead         rpc.Method = 28
	mWrite        rpc.Method = 29
	mAcquireWrite rpc.Method = 30
	mReleaseWrite rpc.Method = 31
	mGetXattr     rpc.Method = 32
	mSetXattr     rpc.Method = 33
	mListXattr    rpc.Method = 34
	mRemoveXattr  rpc.Method = 35
	mStatFS       rpc.Method = 36
	mTmpfile      rpc.Method = 37
	mSeek         rpc.Method = 38
	mCopyRange    rpc.Method = 39
	mPromise      rpc.Method = 40
	mGetLock      rpc.Method = 41
	mSetLock      rpc.Method = 42
	mAwaitLock    rpc.Method = 43
	mEndAwait     rpc.Method = 44
	mForget       rpc.Method = 45
	mReturnLocks  rpc.Method = 46
	mAcquireLease rpc.Method = 47 // mAcquireWrite, with Lease.Allowed in the answer
	mReserve      rpc.Method = 48
	mAcquireDir   rpc.Method = 49
	mBatch        rpc.Method = 50
	mInos         rpc.Method = 51
	mWhere        rpc.Method = 52 // without a session; errs.Unsupported of servers that are the only one

	// What the server sends; mInvalidate only where there was an mCache.
	mRecall      rpc.Method = 64
	mInvalidate  rpc.Method = 65
	mRecallLocks rpc.Method = 66
)

// Requests and answers. Fields are numbered: add fields with new numbers.
type (
	// numbered is a changing call.
	numbered[T any] struct {
		Seq   uint64 `cbor:"1,keyasint"`
		Acked uint64 `cbor:"2,keyasint"`
		Body  T      `cbor:"3,keyasint"`
		Dirs  bool   `cbor:"4,keyasint,omitempty"` // tell what becomes of directories, see api.Dirs
	}

	beginReq struct {
		Node string `cbor:"1,keyasint"`
	}
	beginAns struct {
		ID    twofold.SessionID `cbor:"1,keyasint"`
		Token []byte            `cbor:"2,keyasint"`
		Term  time.Duration     `cbor:"3,keyasint,omitempty"` // ns: what silence a mount's leases bear
	}
	// resumeReq has the CBOR of api.Held as payload: it can be long.
	resumeReq struct {
		ID       twofold.SessionID `cbor:"1,keyasint"`
		Token    []byte            `cbor:"2,keyasint"`
		Promised int64             `cbor:"3,keyasint,omitempty"` // api.Held's
		Locks    []api.HeldLocks   `cbor:"4,keyasint,omitempty"` // likewise; api.MaxLocks of them fit
		Terms    bool              `cbor:"5,keyasint,omitempty"` // answer with resumeAns; mounts of before know none
	}
	resumeAns struct {
		Term time.Duration `cbor:"1,keyasint,omitempty"` // as of beginAns
	}
	// cacheReq is for mCache; mounts of before directory leases have none.
	cacheReq struct {
		Homes bool `cbor:"1,keyasint,omitempty"` // tell homes of inodes, api.Attr.Home
	}
	cacheAns struct {
		Term time.Duration `cbor:"1,keyasint,omitempty"` // ns of the lease term; 0: no read leases
	}
	settleReq struct {
		Seq uint64 `cbor:"1,keyasint"`
	}
	settleAns struct {
		Done bool `cbor:"1,keyasint,omitempty"` // it had succeeded
	}
	none struct{}

	inoReq struct {
		Ino twofold.Ino `cbor:"1,keyasint"`
	}
	nameReq struct {
		Dir  twofold.Ino `cbor:"1,keyasint"`
		Name string      `cbor:"2,keyasint"`
	}
	setAttrReq struct {
		Ino  twofold.Ino `cbor:"1,keyasint"`
		Attr api.SetAttr `cbor:"2,keyasint"`
	}
	createReq struct {
		Dir    twofold.Ino `cbor:"1,keyasint"`
		Name   string      `cbor:"2,keyasint"`
		Create api.Create  `cbor:"3,keyasint"`
	}
	createAns struct {
		Attr    api.Attr `cbor:"1,keyasint"`
		Existed bool     `cbor:"2,keyasint,omitempty"`
		dirsAns
	}
	// dirsAns is of calls with Dirs; older servers answer them without.
	dirsAns struct {
		Dirs []api.Attr `cbor:"16,keyasint,omitempty"`
	}
	tmpfileReq struct {
		Dir    twofold.Ino `cbor:"1,keyasint"`
		Create api.Create  `cbor:"2,keyasint"`
	}
	seekReq struct {
		Ino  twofold.Ino `cbor:"1,keyasint"`
		Off  int64       `cbor:"2,keyasint,omitempty"`
		Hole bool        `cbor:"3,keyasint,omitempty"`
	}
	copyAns struct {
		Attr   api.Attr `cbor:"1,keyasint"`
		Copied int64    `cbor:"2,keyasint,omitempty"`
	}
	linkReq struct {
		Ino  twofold.Ino `cbor:"1,keyasint"`
		Dir  twofold.Ino `cbor:"2,keyasint"`
		Name string      `cbor:"3,keyasint"`
	}
	renameReq struct {
		OldDir  twofold.Ino `cbor:"1,keyasint"`
		OldName string      `cbor:"2,keyasint"`
		NewDir  twofold.Ino `cbor:"3,keyasint"`
		NewName string      `cbor:"4,keyasint"`
		Flags   uint32      `cbor:"5,keyasint,omitempty"`
	}
	readDirReq struct {
		Dir    twofold.Ino `cbor:"1,keyasint"`
		Cursor string      `cbor:"2,keyasint,omitempty"`
		Max    int         `cbor:"3,keyasint"`
		Attrs  bool        `cbor:"4,keyasint,omitempty"`
	}
	readDirAns struct {
		Entries []api.DirEntry `cbor:"1,keyasint"`
		EOF     bool           `cbor:"2,keyasint,omitempty"`
	}
	// readReq's answer is bare payload.
	readReq struct {
		Ino twofold.Ino `cbor:"1,keyasint"`
		Off int64       `cbor:"2,keyasint,omitempty"`
		Len int         `cbor:"3,keyasint"`
	}
	// writeReq's segments' bytes are the payload, one behind the other.
	writeReq struct {
		Ino      twofold.Ino      `cbor:"1,keyasint"`
		Token    uint64           `cbor:"2,keyasint,omitempty"`
		Segments []segment        `cbor:"3,keyasint,omitempty"`
		Punch    []metadata.Range `cbor:"4,keyasint,omitempty"`
		Size     int64            `cbor:"5,keyasint,omitempty"`
		Mtime    twofold.Time     `cbor:"6,keyasint,omitempty"`
		ETag     string           `cbor:"7,keyasint,omitempty"`
		KillPriv bool             `cbor:"8,keyasint,omitempty"`
		Atime    twofold.Time     `cbor:"9,keyasint,omitempty"`
	}
	promiseReq struct {
		Bytes int64 `cbor:"1,keyasint,omitempty"`
	}
	copyReq struct {
		Range api.CopyRange `cbor:"1,keyasint"`
	}
	lockReq struct {
		Ino    twofold.Ino `cbor:"1,keyasint"`
		Lock   api.Lock    `cbor:"2,keyasint"`
		Ticket uint64      `cbor:"3,keyasint,omitempty"` // of a wait
	}
	returnLocksReq struct {
		Held api.HeldLocks `cbor:"1,keyasint"`
	}
	getLockAns struct {
		Lock  api.Lock `cbor:"1,keyasint"`
		Found bool     `cbor:"2,keyasint,omitempty"`
	}
	endAwaitAns struct {
		Held bool `cbor:"1,keyasint,omitempty"`
	}
	forgetReq struct {
		Inos []twofold.Ino `cbor:"1,keyasint"`
	}
	invalidateReq struct {
		Stale []api.Stale `cbor:"1,keyasint"`
	}
	segment struct {
		_   struct{} `cbor:",toarray"`
		Off int64
		Len int
	}
	acquireAns struct {
		Lease   api.Lease `cbor:"1,keyasint"`
		Allowed int64     `cbor:"2,keyasint,omitempty"`
	}
	reserveReq struct {
		Ino   twofold.Ino `cbor:"1,keyasint"`
		Token uint64      `cbor:"2,keyasint"`
		Size  int64       `cbor:"3,keyasint"`
		Slack int64       `cbor:"4,keyasint,omitempty"`
	}
	leaseReq struct {
		Ino   twofold.Ino `cbor:"1,keyasint"`
		Token uint64      `cbor:"2,keyasint"`
	}
	xattrReq struct {
		Ino  twofold.Ino `cbor:"1,keyasint"`
		Name string      `cbor:"2,keyasint"`
	}
	setXattrReq struct {
		Ino   twofold.Ino `cbor:"1,keyasint"`
		Name  string      `cbor:"2,keyasint"`
		Value []byte      `cbor:"3,keyasint,omitempty"`
		Flags uint32      `cbor:"4,keyasint,omitempty"`
	}
)

// window is how many numbers a session may be ahead of its oldest unanswered one.
const window = 1 << 14
