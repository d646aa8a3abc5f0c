package s3err

// The codes that this server answers with.
const (
	AccessControlListNotSupported                  Code = "AccessControlListNotSupported"
	AccessDenied                                   Code = "AccessDenied"
	AccessForbidden                                Code = "AccessForbidden"
	AuthorizationHeaderMalformed                   Code = "AuthorizationHeaderMalformed"
	AuthorizationQueryParametersError              Code = "AuthorizationQueryParametersError"
	BadDigest                                      Code = "BadDigest"
	BadRequest                                     Code = "BadRequest"
	BucketAlreadyExists                            Code = "BucketAlreadyExists"
	BucketAlreadyOwnedByYou                        Code = "BucketAlreadyOwnedByYou"
	BucketNotEmpty                                 Code = "BucketNotEmpty"
	ConditionalRequestConflict                     Code = "ConditionalRequestConflict"
	EntityTooLarge                                 Code = "EntityTooLarge"
	EntityTooSmall                                 Code = "EntityTooSmall"
	IllegalLocationConstraintException             Code = "IllegalLocationConstraintException"
	IncompleteBody                                 Code = "IncompleteBody"
	InsufficientStorage                            Code = "InsufficientStorage"
	InternalError                                  Code = "InternalError"
	InvalidAccessKeyId                             Code = "InvalidAccessKeyId"
	InvalidArgument                                Code = "InvalidArgument"
	InvalidBucketName                              Code = "InvalidBucketName"
	InvalidDigest                                  Code = "InvalidDigest"
	InvalidLocationConstraint                      Code = "InvalidLocationConstraint"
	InvalidPart                                    Code = "InvalidPart"
	InvalidPartNumber                              Code = "InvalidPartNumber"
	InvalidPartOrder                               Code = "InvalidPartOrder"
	InvalidRange                                   Code = "InvalidRange"
	InvalidRequest                                 Code = "InvalidRequest"
	InvalidStorageClass                            Code = "InvalidStorageClass"
	InvalidURI                                     Code = "InvalidURI"
	KeyTooLongError                                Code = "KeyTooLongError"
	MalformedTrailerError                          Code = "MalformedTrailerError"
	MalformedXML                                   Code = "MalformedXML"
	MaxMessageLengthExceeded                       Code = "MaxMessageLengthExceeded"
	MetadataTooLarge                               Code = "MetadataTooLarge"
	MethodNotAllowed                               Code = "MethodNotAllowed"
	MissingContentLength                           Code = "MissingContentLength"
	MissingRequestBodyError                        Code = "MissingRequestBodyError"
	MissingSecurityHeader                          Code = "MissingSecurityHeader"
	NoSuchBucket                                   Code = "NoSuchBucket"
	NoSuchBucketPolicy                             Code = "NoSuchBucketPolicy"
	NoSuchCORSConfiguration                        Code = "NoSuchCORSConfiguration"
	NoSuchKey                                      Code = "NoSuchKey"
	NoSuchLifecycleConfiguration                   Code = "NoSuchLifecycleConfiguration"
	NoSuchPublicAccessBlockConfiguration           Code = "NoSuchPublicAccessBlockConfiguration"
	NoSuchTagSet                                   Code = "NoSuchTagSet"
	NoSuchUpload                                   Code = "NoSuchUpload"
	NoSuchVersion                                  Code = "NoSuchVersion"
	NoSuchWebsiteConfiguration                     Code = "NoSuchWebsiteConfiguration"
	NotImplemented                                 Code = "NotImplemented"
	NotModified                                    Code = "NotModified"
	ObjectLockConfigurationNotFoundError           Code = "ObjectLockConfigurationNotFoundError"
	OperationAborted                               Code = "OperationAborted"
	OwnershipControlsNotFoundError                 Code = "OwnershipControlsNotFoundError"
	PreconditionFailed                             Code = "PreconditionFailed"
	QuotaExceeded                                  Code = "QuotaExceeded"
	ReplicationConfigurationNotFoundError          Code = "ReplicationConfigurationNotFoundError"
	RequestTimeTooSkewed                           Code = "RequestTimeTooSkewed"
	RequestTimeout                                 Code = "RequestTimeout"
	ServerSideEncryptionConfigurationNotFoundError Code = "ServerSideEncryptionConfigurationNotFoundError"
	ServiceUnavailable                             Code = "ServiceUnavailable"
	SignatureDoesNotMatch                          Code = "SignatureDoesNotMatch"
	SlowDown                                       Code = "SlowDown"
	XAmzContentSHA256Mismatch                      Code = "XAmzContentSHA256Mismatch"
)

// describe is the table: HTTP status and message of a code; 0 for one not in it.
func describe(c Code) (status int, msg string) {
	switch c {
	case AccessControlListNotSupported:
		return 400, "The bucket does not allow ACLs"
	case AccessDenied:
		return 403, "Access Denied"
	case AccessForbidden:
		return 403, "CORSResponse: CORS is not enabled for this bucket."
	case AuthorizationHeaderMalformed:
		return 400, "The authorization header you provided is invalid."
	case AuthorizationQueryParametersError:
		return 400, "Error parsing the X-Amz-Credential parameter."
	case BadDigest:
		return 400, "The Content-MD5 you specified did not match what we received."
	case BadRequest:
		return 400, "Bad Request"
	case BucketAlreadyExists:
		return 409, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
	case BucketAlreadyOwnedByYou:
		return 409, "Your previous request to create the named bucket succeeded and you already own it."
	case BucketNotEmpty:
		return 409, "The bucket you tried to delete is not empty"
	case ConditionalRequestConflict:
		return 409, "The conditional request cannot succeed due to a conflicting operation against this resource."
	case EntityTooLarge:
		return 400, "Your proposed upload exceeds the maximum allowed size"
	case EntityTooSmall:
		return 400, "Your proposed upload is smaller than the minimum allowed size"
	case IllegalLocationConstraintException:
		return 400, "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to."
	case IncompleteBody:
		return 400, "You did not provide the number of bytes specified by the Content-Length HTTP header"
	case InsufficientStorage:
		return 507, "The store has no space left for this request."
	case InternalError:
		return 500, "We encountered an internal error. Please try again."
	case InvalidAccessKeyId:
		return 403, "The AWS Access Key Id you provided does not exist in our records."
	case InvalidArgument:
		return 400, "Invalid Argument"
	case InvalidBucketName:
		return 400, "The specified bucket is not valid."
	case InvalidDigest:
		return 400, "The Content-MD5 you specified was invalid."
	case InvalidLocationConstraint:
		return 400, "The specified location-constraint is not valid"
	case InvalidPart:
		return 400, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
	case InvalidPartNumber:
		return 416, "The requested partnumber is not satisfiable"
	case InvalidPartOrder:
		return 400, "The list of parts was not in ascending order. Parts must be ordered by part number."
	case InvalidRange:
		return 416, "The requested range is not satisfiable"
	case InvalidRequest:
		return 400, "Invalid Request"
	case InvalidStorageClass:
		return 400, "The storage class you specified is not valid"
	case InvalidURI:
		return 400, "Couldn't parse the specified URI."
	case KeyTooLongError:
		return 400, "Your key is too long"
	case MalformedTrailerError:
		return 400, "The request contained trailing data that was not well-formed or did not conform to our published schema."
	case MalformedXML:
		return 400, "The XML you provided was not well-formed or did not validate against our published schema"
	case MaxMessageLengthExceeded:
		return 400, "Your request was too big."
	case MetadataTooLarge:
		return 400, "Your metadata headers exceed the maximum allowed metadata size"
	case MethodNotAllowed:
		return 405, "The specified method is not allowed against this resource."
	case MissingContentLength:
		return 411, "You must provide the Content-Length HTTP header."
	case MissingRequestBodyError:
		return 400, "Request Body is empty"
	case MissingSecurityHeader:
		return 400, "Your request was missing a required header"
	case NoSuchBucket:
		return 404, "The specified bucket does not exist"
	case NoSuchBucketPolicy:
		return 404, "The bucket policy does not exist"
	case NoSuchCORSConfiguration:
		return 404, "The CORS configuration does not exist"
	case NoSuchKey:
		return 404, "The specified key does not exist."
	case NoSuchLifecycleConfiguration:
		return 404, "The lifecycle configuration does not exist"
	case NoSuchPublicAccessBlockConfiguration:
		return 404, "The public access block configuration was not found"
	case NoSuchTagSet:
		return 404, "The TagSet does not exist"
	case NoSuchUpload:
		return 404, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
	case NoSuchVersion:
		return 404, "The specified version does not exist."
	case NoSuchWebsiteConfiguration:
		return 404, "The specified bucket does not have a website configuration"
	case NotImplemented:
		return 501, "A header you provided implies functionality that is not implemented"
	case NotModified:
		return 304, "Not Modified"
	case ObjectLockConfigurationNotFoundError:
		return 404, "Object Lock configuration does not exist for this bucket"
	case OperationAborted:
		return 409, "A conflicting conditional operation is currently in progress against this resource. Please try again."
	case OwnershipControlsNotFoundError:
		return 404, "The bucket ownership controls were not found"
	case PreconditionFailed:
		return 412, "At least one of the pre-conditions you specified did not hold"
	case QuotaExceeded:
		return 403, "The bucket's quota is used up."
	case ReplicationConfigurationNotFoundError:
		return 404, "The replication configuration was not found"
	case RequestTimeTooSkewed:
		return 403, "The difference between the request time and the current time is too large."
	case RequestTimeout:
		return 400, "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."
	case ServerSideEncryptionConfigurationNotFoundError:
		return 404, "The server side encryption configuration was not found"
	case ServiceUnavailable:
		return 503, "Service is unable to handle request."
	case SignatureDoesNotMatch:
		return 403, "The request signature we calculated does not match the signature you provided. Check your key and signing method."
	case SlowDown:
		return 503, "Please reduce your request rate."
	case XAmzContentSHA256Mismatch:
		return 400, "The provided 'x-amz-content-sha256' header does not match what was computed."
	}
	return 0, ""
}
