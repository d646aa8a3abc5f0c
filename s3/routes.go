package s3

import (
	"net"
	"net/http"
	"strings"

	"github.com/gorilla/mux"
)

// level is what a request's path names.
type level uint8

const (
	serviceLevel level = iota
	bucketLevel
	objectLevel
)

// Names of the router's variables.
const (
	varBucket = "bucket"
	varKey    = "key"
)

// routes has one route for each level. Matchers are functions and not templates:
// keys are any text, newlines and empty components included, and the operation
// follows from method and query (see operations.go) faster than from a list of
// patterns.
func (s *Server) routes() *mux.Router {
	r := mux.NewRouter().SkipClean(true)
	for _, l := range []level{objectLevel, bucketLevel, serviceLevel} {
		r.NewRoute().MatcherFunc(s.matcher(l)).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, l)
		})
	}
	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, serviceLevel) })
	return r
}

func (s *Server) matcher(want level) mux.MatcherFunc {
	return func(r *http.Request, m *mux.RouteMatch) bool {
		bucket, key, l := s.target(r)
		if l != want {
			return false
		}
		if l != serviceLevel {
			m.Vars = map[string]string{varBucket: bucket, varKey: key}
		}
		return true
	}
}

// target reads bucket and key from host and path.
func (s *Server) target(r *http.Request) (bucket, key string, l level) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	bucket = s.virtualHost(r.Host)
	if bucket == "" {
		bucket, path, _ = strings.Cut(path, "/")
	}
	switch {
	case bucket == "":
		return "", "", serviceLevel
	case path == "":
		return bucket, "", bucketLevel
	}
	return bucket, path, objectLevel
}

// virtualHost returns the bucket that a host name stands for: what is in front of
// one of the configured domains.
func (s *Server) virtualHost(host string) string {
	if len(s.domains) == 0 {
		return ""
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, d := range s.domains {
		if n := len(host) - len(d); n > 0 && strings.EqualFold(host[n:], d) {
			return strings.ToLower(host[:n])
		}
	}
	return ""
}

// dotted puts the domains into the form that virtualHost compares with.
func dotted(domains []string) []string {
	var out []string
	for _, d := range domains {
		if h, _, err := net.SplitHostPort(d); err == nil {
			d = h
		}
		if d = strings.Trim(strings.TrimSpace(d), "."); d != "" {
			out = append(out, "."+d)
		}
	}
	return out
}
