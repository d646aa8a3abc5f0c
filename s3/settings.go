package s3

import (
	"net/http"

	"twofold/s3/s3err"
	"twofold/s3/wire"
)

// setting is what GET of a sub-resource answers where the store does not have what
// it configures: either that nothing is configured, as S3 says it, or the state that
// everything is in. Setting any of them stays 501.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
type setting struct {
	op   string
	none s3err.Code         // 404 with this code
	root string             // or 200 with this document
	fill func(*wire.Writer) // its content; nil: empty
}

// bucketSetting returns what GET ?name answers for every bucket.
func bucketSetting(name string) (setting, bool) {
	switch name {
	case "acl":
		return setting{op: "GetBucketAcl", root: "AccessControlPolicy", fill: writeACL}, true
	case "accelerate":
		return setting{op: "GetBucketAccelerateConfiguration", root: "AccelerateConfiguration"}, true
	case "cors":
		return setting{op: "GetBucketCors", none: s3err.NoSuchCORSConfiguration}, true
	case "encryption":
		return setting{op: "GetBucketEncryption", none: s3err.ServerSideEncryptionConfigurationNotFoundError}, true
	case "lifecycle":
		return setting{op: "GetBucketLifecycleConfiguration", none: s3err.NoSuchLifecycleConfiguration}, true
	case "logging":
		return setting{op: "GetBucketLogging", root: "BucketLoggingStatus"}, true
	case "notification":
		return setting{op: "GetBucketNotificationConfiguration", root: "NotificationConfiguration"}, true
	case "object-lock":
		return setting{op: "GetObjectLockConfiguration", none: s3err.ObjectLockConfigurationNotFoundError}, true
	case "ownershipControls":
		return setting{op: "GetBucketOwnershipControls", none: s3err.OwnershipControlsNotFoundError}, true
	case "policy":
		return setting{op: "GetBucketPolicy", none: s3err.NoSuchBucketPolicy}, true
	case "policyStatus":
		return setting{op: "GetBucketPolicyStatus", none: s3err.NoSuchBucketPolicy}, true
	case "publicAccessBlock":
		return setting{op: "GetPublicAccessBlock", none: s3err.NoSuchPublicAccessBlockConfiguration}, true
	case "replication":
		return setting{op: "GetBucketReplication", none: s3err.ReplicationConfigurationNotFoundError}, true
	case "requestPayment":
		return setting{op: "GetBucketRequestPayment", root: "RequestPaymentConfiguration", fill: writePayer}, true
	case "tagging":
		return setting{op: "GetBucketTagging", none: s3err.NoSuchTagSet}, true
	case "versioning":
		return setting{op: "GetBucketVersioning", root: "VersioningConfiguration"}, true
	case "website":
		return setting{op: "GetBucketWebsite", none: s3err.NoSuchWebsiteConfiguration}, true
	}
	return setting{}, false
}

// objectSetting is bucketSetting for objects.
func objectSetting(name string) (setting, bool) {
	switch name {
	case "acl":
		return setting{op: "GetObjectAcl", root: "AccessControlPolicy", fill: writeACL}, true
	case "tagging":
		return setting{op: "GetObjectTagging", root: "Tagging", fill: func(w *wire.Writer) {
			w.Open("TagSet")
			w.Close("TagSet")
		}}, true
	}
	return setting{}, false
}

// findSetting returns the operation that reads the sub-resource, if it is one.
func (rq *request) findSetting(l level, name string) (operation, bool) {
	if rq.r.Method != http.MethodGet {
		return operation{}, false
	}
	find := bucketSetting
	if l == objectLevel {
		find = objectSetting
	}
	s, ok := find(name)
	if !ok {
		return operation{}, false
	}
	return operation{s.op, func(rq *request) error { return rq.getSetting(s) }}, true
}

// getSetting answers for a bucket or an object that is there.
func (rq *request) getSetting(s setting) (err error) {
	if rq.key == "" {
		_, err = rq.volume.HeadBucket(rq.ctx(), rq.bucket)
	} else {
		_, err = rq.volume.HeadObject(rq.ctx(), rq.bucket, rq.key)
	}
	if err != nil {
		return err
	}
	if s.none != "" {
		return s3err.New(s.none)
	}
	w, buf := rq.xml(s.root)
	if s.fill != nil {
		s.fill(w)
	}
	return rq.reply(w, s.root, buf)
}

// writeACL: the one owner may do everything, and nobody else anything.
func writeACL(w *wire.Writer) {
	writeOwner(w, "Owner")
	w.Open("AccessControlList")
	w.Open("Grant")
	w.Open(`Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"`)
	w.Text("ID", ownerID)
	w.Text("DisplayName", ownerName)
	w.Close("Grantee")
	w.Text("Permission", "FULL_CONTROL")
	w.Close("Grant")
	w.Close("AccessControlList")
}

func writePayer(w *wire.Writer) { w.Text("Payer", "BucketOwner") }
