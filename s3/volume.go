package s3

import "twofold/volume/api"

// The S3 view's contract with the store is in volume/api; these are its types under
// the names that they have here.
type (
	Volume        = api.Objects
	Buckets       = api.BucketOps
	Objects       = api.ObjectOps
	Uploads       = api.UploadOps
	BucketInfo    = api.BucketInfo
	Attrs         = api.Attrs
	Sum           = api.Sum
	PutInput      = api.PutInput
	ObjectInfo    = api.ObjectInfo
	ObjectReader  = api.ObjectReader
	CopyInput     = api.CopyInput
	ListPage      = api.ListPage
	ListItem      = api.ListItem
	UploadRef     = api.UploadRef
	UploadInput   = api.UploadInput
	UploadInfo    = api.UploadInfo
	PartInput     = api.PartInput
	PartCopyInput = api.PartCopyInput
	PartInfo      = api.PartInfo
	CompleteInput = api.CompleteInput
)
