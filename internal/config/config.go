// Package config reads the settings of a server from its environment: the root
// credentials, the domains of virtual-host requests, the region and the storage
// classes. Each has an S3_ name and the MINIO_ name that existing deployments use.
// It only reads and checks; nothing here is logged or kept anywhere.
package config

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"twofold/internal/errs"
)

// Defaults where the environment says nothing.
const (
	DefaultUser     = "minioadmin"
	DefaultPassword = "minioadmin"
	DefaultRegion   = "us-east-1"
)

// Fewest characters of credentials, as S3 clients of this family know them.
const (
	minUser     = 3
	minPassword = 8
)

// Credentials are an access key and its secret.
type Credentials struct {
	AccessKey string
	SecretKey Secret
	Default   bool // they are the ones that everybody knows
}

// Config is what the environment says. A variable that is set and empty is unset.
type Config struct {
	Root     Credentials
	Domains  []string // lower case, of virtual-host style requests: bucket.DOMAIN
	Region   string
	Standard string // "EC:n" as given, or empty; checked against the layout by engine/placement
	RRS      string // the same for REDUCED_REDUNDANCY
	// Warnings are sentences for the log, without secrets.
	Warnings []string
}

// FromEnv reads the environment through lookup (os.LookupEnv). An error is
// errs.Invalid with a sentence that says which variable to change; it never has a
// secret in it.
func FromEnv(lookup func(name string) (value string, ok bool)) (Config, error) {
	e := env{lookup: lookup}
	var c Config
	var err error
	if c.Root, err = e.credentials(); err != nil {
		return Config{}, err
	}
	if c.Domains, err = domains(e.get("DOMAIN")); err != nil {
		return Config{}, err
	}
	if c.Region, err = region(e.get("REGION")); err != nil {
		return Config{}, err
	}
	c.Standard = e.get("STORAGE_CLASS_STANDARD").value
	c.RRS = e.get("STORAGE_CLASS_RRS").value
	c.Warnings = e.warnings
	return c, nil
}

// env looks names up under both prefixes and collects what is odd.
type env struct {
	lookup   func(string) (string, bool)
	warnings []string
}

// setting is a value and the variable it came from (its S3_ name where unset).
type setting struct {
	name  string
	value string
}

func (e *env) get(name string) setting {
	s3, _ := e.lookup("S3_" + name)
	minio, _ := e.lookup("MINIO_" + name)
	if s3 == "" && minio != "" {
		return setting{"MINIO_" + name, minio}
	}
	if minio != "" && minio != s3 {
		e.warnings = append(e.warnings, "S3_"+name+" and MINIO_"+name+" are both set and differ; S3_"+name+" is used. Unset one of them.")
	}
	return setting{"S3_" + name, s3}
}

func (e *env) credentials() (Credentials, error) {
	user, password := e.get("ROOT_USER"), e.get("ROOT_PASSWORD")
	switch {
	case user.value == "" && password.value == "":
		return Credentials{AccessKey: DefaultUser, SecretKey: DefaultPassword, Default: true}, nil
	case password.value == "":
		return Credentials{}, invalid(user.name + " is set but S3_ROOT_PASSWORD is not; set both, or none of them.")
	case user.value == "":
		return Credentials{}, invalid(password.name + " is set but S3_ROOT_USER is not; set both, or none of them.")
	}
	if err := checkUser(user); err != nil {
		return Credentials{}, err
	}
	if err := checkPassword(password); err != nil {
		return Credentials{}, err
	}
	return Credentials{
		AccessKey: user.value,
		SecretKey: Secret(password.value),
		Default:   user.value == DefaultUser && password.value == DefaultPassword,
	}, nil
}

func checkUser(s setting) error {
	switch {
	case utf8.RuneCountInString(s.value) < minUser:
		return invalid(s.name + " is too short: an access key has at least 3 characters.")
	case !printable(s.value) || strings.ContainsAny(s.value, " =,/"):
		// They delimit the access key in the Authorization header.
		return invalid(s.name + " has a blank, a control character or one of \"=,/\" in it; an access key can't.")
	}
	return nil
}

func checkPassword(s setting) error {
	switch {
	case utf8.RuneCountInString(s.value) < minPassword:
		return invalid(s.name + " is too short: a secret key has at least 8 characters.")
	case !printable(s.value):
		return invalid(s.name + " has a line break or another control character in it; is there one at its end?")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// domains splits a comma list and checks each.
func domains(s setting) ([]string, error) {
	var out []string
	for _, d := range strings.Split(s.value, ",") {
		d = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(d), "."))
		if d == "" {
			continue
		}
		if !isDomain(d) {
			return nil, invalid(s.name + ": \"" + d + "\" is not a domain name; write them as in s3.example.com,s3.example.org, without port or scheme.")
		}
		if slices.Contains(out, d) {
			continue
		}
		for _, o := range out {
			if strings.HasSuffix(d, "."+o) || strings.HasSuffix(o, "."+d) {
				return nil, invalid(s.name + ": \"" + d + "\" and \"" + o + "\" overlap, so that a host name could mean two buckets; keep one of them.")
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// isDomain accepts RFC 1123 host names (one label is enough: localhost), no addresses.
func isDomain(d string) bool {
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	if len(d) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(d); err == nil {
		return false
	}
	for l := range strings.SplitSeq(d, ".") {
		if !label.MatchString(l) {
			return false
		}
	}
	return true
}

func region(s setting) (string, error) {
	if s.value == "" {
		return DefaultRegion, nil
	}
	if !regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,62}$`).MatchString(s.value) {
		return "", invalid(s.name + ": \"" + s.value + "\" is not a region's name; it begins with a letter and has letters, digits, \"-\" and \"_\", as us-east-1 does.")
	}
	return s.value, nil
}

func invalid(msg string) error { return &errs.Error{Kind: errs.Invalid, Msg: msg} }
