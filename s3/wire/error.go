package wire

import (
	"twofold/s3/s3err"
)

// Where tells an error's XML what the request was about.
type Where struct {
	Bucket    string
	Key       string
	Resource  string // the path as it was asked for
	RequestID string
	HostID    string
}

// AppendError writes an error's body.
func AppendError(b []byte, e *s3err.Error, at Where) []byte {
	w := &Writer{append(b, Header...)}
	w.Open("Error")
	w.Text("Code", string(e.Code))
	w.Text("Message", e.Text())
	for _, f := range e.Fields {
		w.Text(f.Name, f.Value)
	}
	switch e.Code {
	case s3err.NoSuchKey, s3err.KeyTooLongError, s3err.NoSuchVersion:
		w.Opt("Key", at.Key)
	case s3err.NoSuchBucket, s3err.BucketNotEmpty, s3err.BucketAlreadyOwnedByYou, s3err.BucketAlreadyExists, s3err.InvalidBucketName,
		s3err.NoSuchBucketPolicy, s3err.NoSuchCORSConfiguration, s3err.NoSuchLifecycleConfiguration, s3err.NoSuchTagSet,
		s3err.NoSuchPublicAccessBlockConfiguration, s3err.NoSuchWebsiteConfiguration, s3err.ObjectLockConfigurationNotFoundError,
		s3err.OwnershipControlsNotFoundError, s3err.ReplicationConfigurationNotFoundError, s3err.ServerSideEncryptionConfigurationNotFoundError:
		w.Opt("BucketName", at.Bucket)
	}
	w.Opt("Resource", at.Resource)
	w.Text("RequestId", at.RequestID)
	w.Text("HostId", at.HostID)
	w.Close("Error")
	return w.b
}
