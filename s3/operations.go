package s3

import (
	"net/http"

	"twofold/s3/s3err"
)

// operation is one operation of the S3 API.
type operation struct {
	name string
	run  func(*request) error
}

// find picks the operation by level, method and query. A query parameter that
// selects a sub-resource selects the operation; others (x-id and the like) do not
// matter.
func (rq *request) find(l level) (operation, error) {
	if rq.r.Method == http.MethodOptions {
		return operation{"Preflight", (*request).preflight}, nil
	}
	if name := rq.unimplemented(l); name != "" {
		if op, ok := rq.findSetting(l, name); ok {
			return op, nil
		}
		return operation{name, (*request).notImplemented}, nil
	}
	switch l {
	case objectLevel:
		return rq.findObject()
	case bucketLevel:
		return rq.findBucket()
	}
	return rq.findService()
}

func (rq *request) findService() (operation, error) {
	switch rq.r.Method {
	case http.MethodGet:
		return operation{"ListBuckets", (*request).listBuckets}, nil
	case http.MethodPost:
		return operation{"POST", (*request).notImplemented}, nil
	}
	return operation{}, rq.methodNotAllowed("GET")
}

func (rq *request) findBucket() (operation, error) {
	q := rq.q
	// A sub-resource by a method that it does not have is refused: DELETE ?uploads
	// must not delete the bucket.
	switch method := rq.r.Method; {
	case method != http.MethodGet && (q.Has("location") || q.Has("uploads")):
		return operation{}, rq.methodNotAllowed("GET")
	case method != http.MethodPost && q.Has("delete"):
		return operation{}, rq.methodNotAllowed("POST")
	}
	switch rq.r.Method {
	case http.MethodGet:
		switch {
		case q.Has("location"):
			return operation{"GetBucketLocation", (*request).getBucketLocation}, nil
		case q.Has("uploads"):
			return operation{"ListMultipartUploads", (*request).listUploads}, nil
		case q.Get("list-type") == "2":
			return operation{"ListObjectsV2", (*request).listObjectsV2}, nil
		}
		return operation{"ListObjects", (*request).listObjectsV1}, nil
	case http.MethodHead:
		return operation{"HeadBucket", (*request).headBucket}, nil
	case http.MethodPut:
		return operation{"CreateBucket", (*request).createBucket}, nil
	case http.MethodDelete:
		return operation{"DeleteBucket", (*request).deleteBucket}, nil
	case http.MethodPost:
		if q.Has("delete") {
			return operation{"DeleteObjects", (*request).deleteObjects}, nil
		}
		return operation{"PostObject", (*request).notImplemented}, nil
	}
	return operation{}, rq.methodNotAllowed("GET, HEAD, PUT, POST, DELETE")
}

func (rq *request) findObject() (operation, error) {
	q := rq.q
	switch method := rq.r.Method; {
	case method != http.MethodPost && q.Has("uploads"):
		return operation{}, rq.methodNotAllowed("POST")
	case method == http.MethodHead && q.Has("uploadId"):
		return operation{}, rq.methodNotAllowed("GET, PUT, POST, DELETE")
	}
	switch rq.r.Method {
	case http.MethodGet:
		if q.Has("uploadId") {
			return operation{"ListParts", (*request).listParts}, nil
		}
		return operation{"GetObject", (*request).getObject}, nil
	case http.MethodHead:
		return operation{"HeadObject", (*request).headObject}, nil
	case http.MethodPut:
		return rq.findPut()
	case http.MethodDelete:
		if q.Has("uploadId") {
			return operation{"AbortMultipartUpload", (*request).abortUpload}, nil
		}
		return operation{"DeleteObject", (*request).deleteObject}, nil
	case http.MethodPost:
		switch {
		case q.Has("uploads"):
			return operation{"CreateMultipartUpload", (*request).createUpload}, nil
		case q.Has("uploadId"):
			return operation{"CompleteMultipartUpload", (*request).completeUpload}, nil
		}
	}
	return operation{}, rq.methodNotAllowed("GET, HEAD, PUT, DELETE")
}

func (rq *request) findPut() (operation, error) {
	_, copied := rq.r.Header["X-Amz-Copy-Source"]
	part, upload := rq.q.Has("partNumber"), rq.q.Has("uploadId")
	switch {
	case part != upload:
		return operation{}, s3err.Msg(s3err.InvalidArgument, "This operation does not accept partNumber or uploadId alone.")
	case part && copied:
		return operation{"UploadPartCopy", (*request).uploadPartCopy}, nil
	case part:
		return operation{"UploadPart", (*request).uploadPart}, nil
	case copied:
		return operation{"CopyObject", (*request).copyObject}, nil
	}
	return operation{"PutObject", (*request).putObject}, nil
}

func (rq *request) methodNotAllowed(allow string) error {
	rq.w.Header()["Allow"] = []string{allow}
	resource := "OBJECT"
	if rq.key == "" {
		resource = "BUCKET"
	}
	if rq.bucket == "" {
		resource = "SERVICE"
	}
	return s3err.Msg(s3err.MethodNotAllowed, "",
		s3err.Field{Name: "Method", Value: rq.r.Method}, s3err.Field{Name: "ResourceType", Value: resource})
}

// unimplemented returns the sub-resource that the query selects, if it is one that
// this server does not have: answering as if it were not there would be a wrong
// success. Some of them can be read all the same (settings.go).
func (rq *request) unimplemented(l level) string {
	for i := range rq.q {
		name := rq.q[i].Name
		if l == objectLevel && objectSub(name) || l == bucketLevel && bucketSub(name) {
			return name
		}
	}
	return ""
}

func bucketSub(name string) bool {
	switch name {
	case "abac", "accelerate", "acl", "analytics", "cors", "encryption", "intelligent-tiering", "inventory",
		"lifecycle", "logging", "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable",
		"metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
		"publicAccessBlock", "replication", "requestPayment", "session", "tagging", "torrent", "versioning",
		"versions", "website",
		// MinIO's own
		"events", "lambdaArn", "replication-metrics", "replication-reset", "replication-check", "metadata":
		return true
	}
	return false
}

func objectSub(name string) bool {
	switch name {
	case "acl", "annotation", "annotations", "attributes", "encryption", "legal-hold", "object-lock", "renameObject",
		"restore", "retention", "select", "select-type", "tagging", "torrent",
		// MinIO's own
		"lambdaArn":
		return true
	}
	return false
}

// notImplemented answers every operation that is not there.
func (rq *request) notImplemented() error {
	return s3err.Msg(s3err.NotImplemented, "A header or query you provided implies functionality that is not implemented",
		s3err.Field{Name: "Operation", Value: rq.op.name})
}

// preflight answers OPTIONS as a bucket without CORS rules does.
func (rq *request) preflight() error {
	if rq.r.Header.Get("Origin") == "" {
		return s3err.Msg(s3err.BadRequest, "Insufficient information. Origin request header needed.")
	}
	return s3err.Msg(s3err.AccessForbidden, "", s3err.Field{Name: "Method", Value: rq.r.Header.Get("Access-Control-Request-Method")})
}
