package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"twofold/s3/s3err"
)

// Credentials are the access keys that the server knows.
type Credentials interface {
	// Lookup returns the secret of an access key. Safe for concurrent use.
	Lookup(accessKey string) (secret string, ok bool)
}

// Payload says how the body is covered by the signature.
type Payload uint8

const (
	PayloadUnsigned       Payload = iota // the body is not signed
	PayloadHash                          // Auth.Hash is its SHA-256
	PayloadChunks                        // aws-chunked, each chunk signed
	PayloadChunksTrailer                 // the same, with a signed trailer
	PayloadUnsignedChunks                // aws-chunked with a trailer, nothing of it signed
)

// Auth is who sent a request, and how its body is to be verified.
type Auth struct {
	AccessKey string
	Presigned bool
	Payload   Payload
	Hash      [sha256.Size]byte // of the body; PayloadHash
	Chunks    *ChunkVerifier    // PayloadChunks and PayloadChunksTrailer
}

// Verifier verifies requests. Safe for concurrent use.
type Verifier struct {
	creds  Credentials
	region string
	now    func() time.Time
	keys   keyCache
	bufs   sync.Pool // of *[]byte
}

// New returns a Verifier for one region. now is the server's clock.
func New(creds Credentials, region string, now func() time.Time) *Verifier {
	return &Verifier{creds: creds, region: region, now: now,
		bufs: sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}}
}

// Verify checks a request's signature; q are its parameters. The error is an
// *s3err.Error. The body is not read: Auth says what it must be.
func (v *Verifier) Verify(r *http.Request, q Params) (Auth, error) {
	var a authorization
	header := r.Header["Authorization"]
	switch {
	case len(header) > 1:
		return Auth{}, s3err.Msg(s3err.InvalidArgument, "Only one Authorization header is allowed")
	case len(header) == 1:
		if err := v.parseHeaderAuth(&a, header[0], r, q); err != nil {
			return Auth{}, err
		}
	case q.Has("X-Amz-Algorithm") || q.Has("X-Amz-Credential") || q.Has("X-Amz-Signature"):
		if err := parsePresigned(&a, q); err != nil {
			return Auth{}, err
		}
	case q.Has("AWSAccessKeyId"):
		return Auth{}, signatureV2()
	default:
		return Auth{}, s3err.New(s3err.AccessDenied)
	}
	return v.verify(&a, r, q)
}

// signatureV2 refuses the older scheme, as regions of AWS that do not have it do, and
// says what to change: boto3 and version 1 of the aws-cli presign with it in us-east-1
// unless they are told not to.
func signatureV2() error {
	return s3err.Msg(s3err.InvalidRequest, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256. "+
		"The request is signed with Signature Version 2; set the client's signature_version to s3v4.")
}

func (v *Verifier) parseHeaderAuth(a *authorization, header string, r *http.Request, q Params) error {
	if strings.HasPrefix(header, "AWS ") {
		return signatureV2()
	}
	if q.Has("X-Amz-Algorithm") || q.Has("X-Amz-Signature") {
		return s3err.Arg("Authorization", redact(header), "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
	}
	if err := parseHeader(a, header); err != nil {
		return err
	}
	return a.requestTime(r.Header)
}

func (v *Verifier) verify(a *authorization, r *http.Request, q Params) (Auth, error) {
	if err := v.checkRegion(a); err != nil {
		return Auth{}, err
	}
	secret, ok := v.creds.Lookup(a.accessKey)
	if !ok {
		return Auth{}, s3err.Msg(s3err.InvalidAccessKeyId, "", s3err.Field{Name: "AWSAccessKeyId", Value: a.accessKey})
	}
	if err := v.checkTime(a); err != nil {
		return Auth{}, err
	}
	payload, auth, err := payloadOf(a, r, q)
	if err != nil {
		return Auth{}, err
	}
	if err := checkSigned(a, r); err != nil {
		return Auth{}, err
	}
	key := v.keys.get(secret, a.date, a.region)
	signature, err := v.checkSignature(a, r, q, key, payload)
	if err != nil {
		return Auth{}, err
	}
	auth.AccessKey, auth.Presigned = a.accessKey, a.presigned
	if auth.Payload == PayloadChunks || auth.Payload == PayloadChunksTrailer {
		auth.Chunks = &ChunkVerifier{key: key, timestamp: a.timestamp, scope: string(a.appendScope(nil)), prev: signature}
	}
	return auth, nil
}

func (v *Verifier) checkRegion(a *authorization) error {
	if a.region == v.region {
		return nil
	}
	msg := "the region '" + a.region + "' is wrong; expecting '" + v.region + "'"
	f := s3err.Field{Name: "Region", Value: v.region}
	if a.presigned {
		return badQuery("Error parsing the X-Amz-Credential parameter; "+msg, f)
	}
	return malformed(msg, f)
}

func (v *Verifier) checkTime(a *authorization) error {
	now := v.now().UTC()
	skew := now.Sub(a.time) / time.Second
	if a.presigned {
		if skew < -maxSkewSecs {
			return s3err.Msg(s3err.AccessDenied, "Request is not valid yet",
				s3err.Field{Name: "ServerTime", Value: now.Format(time.RFC3339)})
		}
		if end := a.time.Add(time.Duration(a.expires) * time.Second); now.After(end) {
			return s3err.Msg(s3err.AccessDenied, "Request has expired",
				s3err.Field{Name: "X-Amz-Expires", Value: strconv.FormatInt(a.expires, 10)},
				s3err.Field{Name: "Expires", Value: end.Format(time.RFC3339)},
				s3err.Field{Name: "ServerTime", Value: now.Format(time.RFC3339)})
		}
		return nil
	}
	if skew < -maxSkewSecs || skew > maxSkewSecs {
		return s3err.Msg(s3err.RequestTimeTooSkewed, "",
			s3err.Field{Name: "RequestTime", Value: a.timestamp},
			s3err.Field{Name: "ServerTime", Value: now.Format(time.RFC3339)},
			s3err.Field{Name: "MaxAllowedSkewMilliseconds", Value: strconv.Itoa(maxSkewSecs * 1000)})
	}
	return nil
}

// payloadOf returns the payload's line of the canonical request, and what it means.
func payloadOf(a *authorization, r *http.Request, q Params) (string, Auth, error) {
	v, ok := "", false
	if a.presigned {
		v, ok = q.Lookup("X-Amz-Content-Sha256")
	}
	if !ok && (!a.presigned || contains(a.headers(), "x-amz-content-sha256")) {
		v = r.Header.Get("X-Amz-Content-Sha256")
	}
	var auth Auth
	switch v {
	case "":
		if !a.presigned {
			return "", auth, s3err.Msg(s3err.InvalidRequest, "Missing required header for this request: x-amz-content-sha256")
		}
		return unsignedPayload, auth, nil
	case unsignedPayload:
	case streamingSigned:
		auth.Payload = PayloadChunks
	case streamingSignedTrailer:
		auth.Payload = PayloadChunksTrailer
	case streamingUnsigned:
		auth.Payload = PayloadUnsignedChunks
	default:
		auth.Payload = PayloadHash
		if len(v) != 64 {
			return "", auth, badPayload(v)
		}
		if _, err := hex.Decode(auth.Hash[:], []byte(v)); err != nil {
			return "", auth, badPayload(v)
		}
	}
	return v, auth, nil
}

func badPayload(v string) error {
	return s3err.Arg("x-amz-content-sha256", v, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
}

// checkSigned demands that host and every x-amz-* header are signed: one that is
// not could have been put in by somebody else.
func checkSigned(a *authorization, r *http.Request) error {
	names := a.headers()
	if !contains(names, "host") {
		return notSigned("host")
	}
	for name := range r.Header {
		if len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") {
			continue
		}
		if a.presigned && name == "X-Amz-Content-Sha256" {
			continue // it counts for nothing then, see payloadOf
		}
		if !contains(names, strings.ToLower(name)) {
			return notSigned(strings.ToLower(name))
		}
	}
	return nil
}

func notSigned(name string) error {
	return s3err.Msg(s3err.AccessDenied, "There were headers present in the request which were not signed",
		s3err.Field{Name: "HeadersNotSigned", Value: name})
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// checkSignature computes the request's signature and compares it, in constant
// time. It returns the signature: the first chunk's is made from it.
func (v *Verifier) checkSignature(a *authorization, r *http.Request, q Params, key *signingKey, payload string) (sig [64]byte, err error) {
	bp := v.bufs.Get().(*[]byte)
	defer v.bufs.Put(bp)
	canonical, missing := appendCanonicalRequest((*bp)[:0], r, q, a, payload)
	if missing != "" {
		*bp = canonical
		return sig, mismatch(a, nil, nil, "the signed header "+missing+" is not in the request")
	}
	end := len(canonical)
	sum := sha256.Sum256(canonical)
	buf := appendStringToSign(canonical, algorithm, a.timestamp, a.appendScope)
	buf = hex.AppendEncode(buf, sum[:])
	*bp = buf
	key.sign(&sig, buf[end:])
	if subtle.ConstantTimeCompare(sig[:], []byte(a.signature)) != 1 {
		return sig, mismatch(a, buf[:end], buf[end:], "")
	}
	return sig, nil
}

func appendStringToSign(b []byte, algorithm, timestamp string, scope func([]byte) []byte) []byte {
	b = append(b, algorithm...)
	b = append(b, '\n')
	b = append(b, timestamp...)
	b = append(b, '\n')
	b = scope(b)
	return append(b, '\n')
}

// mismatch tells the client what was signed here, as AWS does.
func mismatch(a *authorization, canonical, toSign []byte, msg string) error {
	if canonical == nil {
		return s3err.Msg(s3err.SignatureDoesNotMatch, "The request signature we calculated does not match the signature you provided: "+msg,
			s3err.Field{Name: "AWSAccessKeyId", Value: a.accessKey})
	}
	return s3err.Msg(s3err.SignatureDoesNotMatch, "",
		s3err.Field{Name: "AWSAccessKeyId", Value: a.accessKey},
		s3err.Field{Name: "StringToSign", Value: string(toSign)},
		s3err.Field{Name: "SignatureProvided", Value: a.signature},
		s3err.Field{Name: "CanonicalRequest", Value: string(canonical)})
}
