// Package sigv4 verifies AWS Signature Version 4 of S3 requests, in headers and in
// presigned URLs, and the signatures of aws-chunked bodies that follow from it.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
//
// Nothing here logs, and no error carries a secret. What AWS echoes to help a
// client (the canonical request, the string to sign) is in the fields of the error.
package sigv4

const (
	algorithm   = "AWS4-HMAC-SHA256"
	service     = "s3"
	terminator  = "aws4_request"
	isoFormat   = "20060102T150405Z"
	dateFormat  = "20060102"
	maxSkewSecs = 15 * 60
	maxExpires  = 7 * 24 * 3600 // seconds that a presigned URL may last
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Values of x-amz-content-sha256 that are not a hash.
const (
	unsignedPayload        = "UNSIGNED-PAYLOAD"
	streamingSigned        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingSignedTrailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamingUnsigned      = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)
