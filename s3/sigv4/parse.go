package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"twofold/s3/s3err"
)

// authorization is what a request says about its own signature.
type authorization struct {
	presigned     bool
	accessKey     string
	date          string // of the scope, YYYYMMDD
	region        string
	signedHeaders string // as sent: it is part of what is signed
	names         [12]string
	nameList      []string // longer lists
	n             int
	signature     string
	time          time.Time // of the request
	timestamp     string    // the same as sent
	expires       int64     // seconds; presigned only
}

// headers are the signed headers' names, in order.
func (a *authorization) headers() []string {
	if a.nameList != nil {
		return a.nameList
	}
	return a.names[:a.n]
}

// scope is the credential's scope, as it is signed.
func (a *authorization) appendScope(b []byte) []byte {
	b = append(b, a.date...)
	b = append(b, '/')
	b = append(b, a.region...)
	return append(b, "/"+service+"/"+terminator...)
}

func malformed(msg string, f ...s3err.Field) error {
	return s3err.Msg(s3err.AuthorizationHeaderMalformed, "The authorization header is malformed; "+msg, f...)
}

func badQuery(msg string, f ...s3err.Field) error {
	return s3err.Msg(s3err.AuthorizationQueryParametersError, msg, f...)
}

// parseHeader reads "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...".
func parseHeader(a *authorization, v string) error {
	rest, ok := strings.CutPrefix(v, algorithm)
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '\t' {
		return s3err.Arg("Authorization", redact(v), "Unsupported Authorization Type")
	}
	var cred string
	seen := 0
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		part = strings.Trim(part, " \t")
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return malformed("the authorization component \"" + redact(part) + "\" is malformed.")
		}
		var into *string
		switch name {
		case "Credential":
			into = &cred
		case "SignedHeaders":
			into = &a.signedHeaders
		case "Signature":
			into = &a.signature
		default:
			continue
		}
		if *into != "" || value == "" {
			return malformed("the authorization component \"" + name + "\" is malformed.")
		}
		*into = value
		seen++
	}
	if seen != 3 {
		return malformed("the authorization header requires three components: Credential, SignedHeaders, and Signature.")
	}
	if msg, f := a.parseCredential(cred); msg != "" {
		return malformed(msg, f...)
	}
	if !a.parseSignedHeaders() {
		return malformed("the SignedHeaders list is malformed.")
	}
	return nil
}

// redact leaves of an argument only its first word: what follows may be a secret.
func redact(v string) string {
	v, _, _ = strings.Cut(v, " ")
	if len(v) > 64 {
		v = v[:64]
	}
	return v
}

// parseCredential reads accessKey/date/region/s3/aws4_request. Access keys may have
// slashes in them. It returns what is wrong with it.
func (a *authorization) parseCredential(v string) (string, []s3err.Field) {
	var parts [4]string
	rest := v
	for i := 3; i >= 0; i-- {
		j := strings.LastIndexByte(rest, '/')
		if j < 0 {
			return "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".", nil
		}
		rest, parts[i] = rest[:j], rest[j+1:]
	}
	if parts[3] != terminator {
		return "incorrect terminal \"" + parts[3] + "\". This endpoint uses \"aws4_request\".", nil
	}
	if parts[2] != service {
		return "incorrect service \"" + parts[2] + "\". This endpoint belongs to \"s3\".", nil
	}
	if _, err := time.Parse(dateFormat, parts[0]); err != nil || len(parts[0]) != len(dateFormat) {
		return "incorrect date format \"" + parts[0] + "\". This date in the credential must be in the format \"yyyyMMdd\".", nil
	}
	if rest == "" {
		return "a non-empty Access Key (AKID) must be provided in the credential.", nil
	}
	a.accessKey, a.date, a.region = rest, parts[0], parts[1]
	return "", nil
}

// parseSignedHeaders splits the list; it must be sorted, lower-case, and have host.
func (a *authorization) parseSignedHeaders() bool {
	rest, more := a.signedHeaders, true
	prev := ""
	for more {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		if name == "" || name <= prev || len(name) > 256 {
			return false
		}
		for i := 0; i < len(name); i++ {
			if c := name[i]; 'A' <= c && c <= 'Z' || c <= ' ' || c >= 0x7f || c == ':' {
				return false
			}
		}
		prev = name
		switch {
		case a.nameList != nil:
			a.nameList = append(a.nameList, name)
		case a.n < len(a.names):
			a.names[a.n] = name
			a.n++
		default:
			a.nameList = append(slices.Clone(a.names[:]), name)
		}
	}
	return true
}

// parsePresigned reads the X-Amz-* parameters of a presigned URL.
func parsePresigned(a *authorization, q Params) error {
	a.presigned = true
	if q.Get("X-Amz-Algorithm") != algorithm {
		return badQuery("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
	}
	cred, date := q.Get("X-Amz-Credential"), q.Get("X-Amz-Date")
	expires := q.Get("X-Amz-Expires")
	a.signedHeaders, a.signature = q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature")
	if cred == "" || date == "" || expires == "" || a.signedHeaders == "" || a.signature == "" {
		return badQuery("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
	}
	if msg, f := a.parseCredential(cred); msg != "" {
		return badQuery("Error parsing the X-Amz-Credential parameter; "+msg, f...)
	}
	if !a.parseSignedHeaders() {
		return badQuery("Error parsing the X-Amz-SignedHeaders parameter.")
	}
	var err error
	if a.time, err = time.Parse(isoFormat, date); err != nil {
		return badQuery("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	a.timestamp = date
	a.expires, err = strconv.ParseInt(expires, 10, 64)
	switch {
	case err != nil:
		return badQuery("X-Amz-Expires should be a number")
	case a.expires < 0:
		return badQuery("X-Amz-Expires must be non-negative")
	case a.expires > maxExpires:
		return badQuery("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	if a.timestamp[:8] != a.date {
		return badQuery("Invalid credential date \"" + a.date + "\". This date is not the same as X-Amz-Date: \"" + a.timestamp[:8] + "\".")
	}
	return nil
}

// requestTime finds the request's time: x-amz-date, or Date.
func (a *authorization) requestTime(h http.Header) error {
	v := h.Get("X-Amz-Date")
	var err error
	if v != "" {
		if a.time, err = time.Parse(isoFormat, v); err != nil {
			return s3err.Msg(s3err.AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
		}
		a.timestamp = v
	} else {
		if v = h.Get("Date"); v == "" {
			return s3err.Msg(s3err.AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
		}
		if a.time, err = http.ParseTime(v); err != nil {
			if a.time, err = time.Parse(isoFormat, v); err != nil {
				return s3err.Msg(s3err.AccessDenied, "AWS authentication requires a valid Date or x-amz-date header")
			}
		}
		a.time = a.time.UTC()
		a.timestamp = a.time.Format(isoFormat)
	}
	if a.timestamp[:8] != a.date {
		return malformed("Invalid credential date \"" + a.date + "\". This date is not the same as X-Amz-Date: \"" + a.timestamp[:8] + "\".")
	}
	return nil
}
