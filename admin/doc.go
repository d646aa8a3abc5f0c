// Package admin is what an operator's commands ask of a running server: methods on the
// transport that mounts use (cluster/rpc), on the same port, for who proves to know the
// root credentials. An administrator's connection has a role of its own, so that it
// has no session, and methods of its own, which are only ever added to.
package admin

import (
	"twofold/cluster/rpc"

	"twofold"
)

// Methods of protocol version 1. Append, never renumber.
const (
	mQuota    rpc.Method = 1
	mSetQuota rpc.Method = 2
	mInfo     rpc.Method = 3 // -> info.Info
)

// Requests. Fields are numbered: add fields with new numbers. The answer to those for
// quotas is an api.Quota, as it is then.
type (
	quotaReq struct {
		Bucket twofold.BucketName `cbor:"1,keyasint"`
	}
	setQuotaReq struct {
		Bucket twofold.BucketName `cbor:"1,keyasint"`
		Limit  int64              `cbor:"2,keyasint,omitempty"` // bytes; 0: none
	}
)
