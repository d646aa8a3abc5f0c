// Package s3 is the S3 view of the store: routes, handlers, and the rules of the
// S3 API. It knows HTTP and nothing of drives or metadata; what it does, it does
// through the Volume interface (declared in volume/api).
package s3
