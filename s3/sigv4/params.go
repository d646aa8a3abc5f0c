package sigv4

import (
	"net/url"
	"strings"

	"twofold/s3/s3err"
)

// Params are a query string's parameters in the order in which they stand,
// decoded. Names are case-sensitive, as in S3.
type Params []Param

// Param is one of them.
type Param struct{ Name, Value string }

// maxParams bounds the work that a query string can ask for.
const maxParams = 256

// ParseParams decodes a raw query. InvalidURI where an escape is malformed.
func ParseParams(raw string) (Params, error) {
	if raw == "" {
		return nil, nil
	}
	ps := make(Params, 0, strings.Count(raw, "&")+1)
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		p := Param{name, value}
		var err error
		if strings.ContainsAny(name, "%+") {
			if p.Name, err = url.QueryUnescape(name); err != nil {
				return nil, s3err.Wrap(s3err.InvalidURI, err)
			}
		}
		if strings.ContainsAny(value, "%+") {
			if p.Value, err = url.QueryUnescape(value); err != nil {
				return nil, s3err.Wrap(s3err.InvalidURI, err)
			}
		}
		if ps = append(ps, p); len(ps) > maxParams {
			return nil, s3err.New(s3err.InvalidURI)
		}
	}
	return ps, nil
}

// Lookup returns the first value of name, and whether there is one.
func (ps Params) Lookup(name string) (string, bool) {
	for i := range ps {
		if ps[i].Name == name {
			return ps[i].Value, true
		}
	}
	return "", false
}

// Get returns the first value of name, or "".
func (ps Params) Get(name string) string {
	v, _ := ps.Lookup(name)
	return v
}

// Has reports whether name is there.
func (ps Params) Has(name string) bool {
	_, ok := ps.Lookup(name)
	return ok
}
