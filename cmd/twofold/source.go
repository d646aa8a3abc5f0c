package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"twofold"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
	"twofold/volume/keypath"
)

// source is what is mounted: a store, and of it all buckets, one of them, or a prefix
// in one. It is written as in fstab(5): [http://]HOST[:PORT][,...][/BUCKET[/PREFIX]].
type source struct {
	host   string // HOST:PORT of a node, or of several with commas between
	bucket twofold.BucketName
	prefix string // an S3 prefix, without the "/" at its end
}

const (
	defaultSource = "http://127.0.0.1:9000"
	defaultPort   = "9000"
	sourceForm    = "it looks like [http://]HOST[:PORT][/BUCKET[/PREFIX]], and may have several HOST[:PORT] with commas between"
)

// parseSource reads a source. The prefix is taken as S3 clients have it, without any
// %-escapes.
func parseSource(s string) (source, error) {
	list, path, _ := strings.Cut(strings.TrimPrefix(s, "http://"), "/")
	for strings.HasSuffix(list, ",http:") && strings.HasPrefix(path, "/") { // the next one as a URL
		list, path, _ = strings.Cut(strings.TrimSuffix(list, "http:")+path[1:], "/")
	}
	if scheme, ok := strings.CutSuffix(list, ":"); ok && strings.HasPrefix(path, "/") {
		return source{}, usage("the source %s://...: servers speak http:// alone, there is no TLS: %s", scheme, sourceForm)
	}
	if strings.Contains(list, "@") { // not repeated: there may be a password in it
		return source{}, usage("the source has no user or password in it: everybody would see them. Give --credentials FILE (in fstab: credentials=FILE)")
	}
	var hosts []string
	for one := range strings.SplitSeq(list, ",") {
		host, err := parseHost(one)
		if err != nil {
			return source{}, usage("the source %s: %s", s, sourceForm)
		}
		hosts = append(hosts, host)
	}
	bucket, prefix, _ := strings.Cut(path, "/")
	if bucket == "" && prefix != "" {
		return source{}, usage("the source %s has a prefix and no bucket: %s", s, sourceForm)
	}
	return source{host: strings.Join(hosts, ","), bucket: twofold.BucketName(bucket), prefix: strings.TrimSuffix(prefix, "/")}, nil
}

// parseHost makes HOST:PORT of HOST[:PORT].
func parseHost(host string) (string, error) {
	if host == "" || strings.ContainsAny(host, " ?#") {
		return "", errHost
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
		if strings.Contains(name, ":") && net.ParseIP(name) == nil {
			return "", errHost
		}
		return net.JoinHostPort(name, defaultPort), nil
	}
	if name == "" || port == "" {
		return "", errHost
	}
	return host, nil
}

var errHost = errors.New("not a host and a port")

// hosts are the nodes, each HOST:PORT.
func (s source) hosts() []string { return strings.Split(s.host, ",") }

// endpointSource is the source for nodes of --endpoint, and what of their store is mounted, which
// is BUCKET[/PREFIX], or "".
func endpointSource(endpoints []string, path string) (string, error) {
	var hosts []string
	for _, e := range endpoints {
		if src, err := parseSource(e); err != nil || src.bucket != "" || !strings.HasPrefix(e, "http://") || len(src.hosts()) != 1 {
			return "", usage("--endpoint %s: it looks like http://HOST:PORT; what of it is mounted is said by SOURCE", e)
		}
		hosts = append(hosts, strings.TrimSuffix(strings.TrimPrefix(e, "http://"), "/"))
	}
	from := "http://" + strings.Join(hosts, ",")
	if path == "" {
		return from, nil
	}
	if bucket, _, _ := strings.Cut(path, "/"); strings.ContainsAny(bucket, ":,[]") {
		return "", usage("give servers in SOURCE or by --endpoint, not both: with --endpoint SOURCE is BUCKET[/PREFIX]")
	}
	return from + "/" + path, nil
}

// root finds the directory's inode: RootIno where all buckets are meant.
func (s source) root(ctx context.Context, files api.Files) (twofold.Ino, error) {
	if s.bucket == "" {
		return twofold.RootIno, nil
	}
	a, err := lookup(ctx, files, twofold.RootIno, string(s.bucket))
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.NoBucket) {
		return 0, fmt.Errorf("there is no bucket %q: make it first, by S3 or by mkdir in a mount of all buckets", s.bucket)
	}
	if err != nil || s.prefix == "" {
		return a.Ino, err
	}
	for comp := range strings.SplitSeq(s.prefix, "/") {
		for _, name := range keypath.ToPosix(comp, false) {
			switch a, err = lookup(ctx, files, a.Ino, name); errs.KindOf(err) {
			case errs.NotFound, errs.Invalid, errs.NameTooLong:
				return 0, fmt.Errorf("there is nothing under the prefix %q in the bucket %q: make the directory first (PUT of the key %q, or mkdir)",
					s.prefix+"/", s.bucket, s.prefix+"/")
			}
			if err != nil {
				return 0, err
			}
			if a.Type != metadata.TypeDir {
				return 0, fmt.Errorf("%q in the bucket %q is not a directory", s.prefix, s.bucket)
			}
		}
	}
	return a.Ino, nil
}

// lookup is files.Lookup for which a name that is not there is always errs.NotFound.
func lookup(ctx context.Context, files api.Files, dir twofold.Ino, name string) (api.Attr, error) {
	a, err := files.Lookup(ctx, dir, name)
	if err == nil && a.Ino == 0 {
		err = errs.Newf("lookup", errs.NotFound, "no entry %q", name)
	}
	return a, err
}
