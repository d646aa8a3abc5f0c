package volume

import (
	"context"
	"sort"
	"strings"
	"unicode/utf8"

	"twofold"
	"twofold/internal/acl"
	"twofold/internal/errs"
	"twofold/metadata"
	"twofold/volume/api"
)

// Extended attributes are user metadata, both ways: "user.k" is x-amz-meta-k where
// both can carry the name, and the value is text of at most 2 KiB (the S3 view encodes
// what a header can't carry as it is). "user.s3.content-type" and the like are the
// object's standard headers. What S3 can't carry stays an attribute of the file.

// headerPrefix begins the attributes that show an object's standard headers.
const headerPrefix = "user.s3."

// headerNames are the standard headers that an object keeps, by attribute.
var headerNames = map[string]string{
	"content-type":        "Content-Type",
	"content-encoding":    "Content-Encoding",
	"content-disposition": "Content-Disposition",
	"content-language":    "Content-Language",
	"cache-control":       "Cache-Control",
	"expires":             "Expires",
}

// Limits of xattr(7), and S3's 2 KiB for all user metadata.
const (
	maxXattrName  = 255
	maxXattrValue = 64 << 10
	maxUserMeta   = 2 << 10
)

// locate says where an attribute lives. With a value, the value must fit there too.
func locate(name string, value []byte) (metadata.XattrSpace, string) {
	if h, ok := strings.CutPrefix(name, headerPrefix); ok {
		if c, ok := headerNames[h]; ok && headerValue(value) {
			return metadata.SpaceHeader, c
		}
		return metadata.SpaceXattr, name
	}
	k, ok := strings.CutPrefix(name, "user.")
	if ok && headerToken(k) && len(value) <= maxUserMeta && utf8.Valid(value) {
		return metadata.SpaceUserMeta, k
	}
	return metadata.SpaceXattr, name
}

// headerToken reports whether k can be the rest of an x-amz-meta- header, in the
// lower case in which S3 keeps it. RFC 9110 section 5.6.2.
func headerToken(k string) bool {
	if k == "" || len(k) > 128 {
		return false
	}
	for i := 0; i < len(k); i++ {
		c := k[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

// headerValue reports whether v can be sent as a header's value, unchanged: visible
// ASCII, spaces only inside.
func headerValue(v []byte) bool {
	for i, c := range v {
		if c < ' ' || c > '~' || c == ' ' && (i == 0 || i == len(v)-1) {
			return false
		}
	}
	return len(v) <= maxUserMeta
}

func checkXattr(op, name string) error {
	switch {
	case name == "" || len(name) > maxXattrName:
		return errs.Newf(op, errs.Invalid, "%d bytes are not a name of an attribute", len(name))
	case strings.HasPrefix(name, "system.") && !acl.IsName(name):
		// They mean something to kernels: obeyed or refused, never stored and ignored.
		return errs.Newf(op, errs.Unsupported, "attribute %s is not supported", name)
	}
	return nil
}

// xattrs returns all attributes of an inode.
func xattrs(n *metadata.Inode) map[string][]byte {
	m := make(map[string][]byte, len(n.Xattrs)+len(n.UserMeta)+len(n.Headers))
	for k, v := range n.UserMeta {
		m["user."+k] = []byte(v)
	}
	for a, h := range headerNames {
		if v, ok := n.Headers[h]; ok {
			m[headerPrefix+a] = []byte(v)
		}
	}
	for k, v := range n.Xattrs {
		m[k] = v
	}
	if n.ACL != nil {
		m[acl.AccessName] = n.ACL
	}
	if n.DefaultACL != nil {
		m[acl.DefaultName] = n.DefaultACL
	}
	return m
}

func (s *Session) inode(ctx context.Context, ino twofold.Ino) (n *metadata.Inode, err error) {
	if ino == twofold.RootIno || ino&levelBit != 0 {
		return &metadata.Inode{Ino: ino, Type: metadata.TypeDir}, nil
	}
	err = s.v.observe(ctx, s.id, func(w metadata.View) (_ []twofold.Ino, err error) {
		n, err = w.Inode(ino)
		return nil, err
	})
	return n, err
}

// GetXattr implements api.Files.
func (s *Session) GetXattr(ctx context.Context, ino twofold.Ino, name string) ([]byte, error) {
	if err := checkXattr("volume.GetXattr", name); err != nil {
		return nil, err
	}
	n, err := s.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	if v, ok := xattrs(n)[name]; ok {
		return v, nil
	}
	return nil, errs.Newf("volume.GetXattr", errs.NoAttr, "no attribute %q", name)
}

// ListXattr implements api.Files.
func (s *Session) ListXattr(ctx context.Context, ino twofold.Ino) ([]string, error) {
	n, err := s.inode(ctx, ino)
	if err != nil {
		return nil, err
	}
	var names []string
	for k := range xattrs(n) {
		names = append(names, k)
	}
	sort.Strings(names)
	return names, nil
}

// SetXattr implements api.Files.
func (s *Session) SetXattr(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	const op = "volume.SetXattr"
	if err := checkXattr(op, name); err != nil {
		return err
	}
	if len(value) > maxXattrValue {
		return errs.Newf(op, errs.TooLarge, "an attribute has at most %d bytes", maxXattrValue)
	}
	if ino == twofold.RootIno || ino&levelBit != 0 {
		return errs.Newf(op, errs.Permission, "the attributes of this directory are fixed")
	}
	if acl.IsName(name) {
		return s.setACL(ctx, ino, name, value, flags)
	}
	flags &^= api.XattrKillSetGID
	space, key := locate(name, value)
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		return err
	}
	defer func() { ch.done(err) }()
	n, err := s.inode(ctx, ino)
	if err != nil {
		return err
	}
	// An attribute moves between the maps when its value stops or begins to fit S3.
	if where, k, ok := find(n, name); ok && where != space {
		if flags&1 != 0 {
			return errs.Newf(op, errs.Exists, "attribute %q exists", name)
		}
		flags = 0
		if _, err = s.v.commit(ctx, metadata.OpSetXattrs, metadata.SetXattrs{Ino: ino, Space: where, Name: k, Remove: true}); err != nil {
			return err
		}
	}
	if value == nil {
		value = []byte{}
	}
	_, err = s.command(ctx, metadata.OpSetXattrs, metadata.SetXattrs{Ino: ino, Space: space, Name: key, Value: value, Flags: flags})
	return err
}

// setACL sets an ACL, or removes it where value is empty. Flags that say whether it may
// be there already are not looked at, as on Linux.
func (s *Session) setACL(ctx context.Context, ino twofold.Ino, name string, value []byte, flags uint32) error {
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		return err
	}
	defer func() { ch.done(err) }()
	_, err = s.command(ctx, metadata.OpSetACL, metadata.SetACL{
		Ino: ino, Default: name == acl.DefaultName, Value: value, KillSetGID: flags&api.XattrKillSetGID != 0,
	})
	return err
}

// find says where an inode has an attribute now.
func find(n *metadata.Inode, name string) (metadata.XattrSpace, string, bool) {
	if _, ok := n.Xattrs[name]; ok {
		return metadata.SpaceXattr, name, true
	}
	if h, ok := headerNames[strings.TrimPrefix(name, headerPrefix)]; ok && strings.HasPrefix(name, headerPrefix) {
		_, ok := n.Headers[h]
		return metadata.SpaceHeader, h, ok
	}
	k := strings.TrimPrefix(name, "user.")
	_, ok := n.UserMeta[k]
	return metadata.SpaceUserMeta, k, ok && k != name
}

// RemoveXattr implements api.Files.
func (s *Session) RemoveXattr(ctx context.Context, ino twofold.Ino, name string) error {
	if err := checkXattr("volume.RemoveXattr", name); err != nil {
		return err
	}
	if acl.IsName(name) {
		return s.setACL(ctx, ino, name, nil, 0)
	}
	n, err := s.inode(ctx, ino)
	if err != nil {
		return err
	}
	ch, err := s.change(ctx, metadata.Target{Ino: ino})
	if err != nil {
		return err
	}
	defer func() { ch.done(err) }()
	space, key, ok := find(n, name)
	if !ok {
		// The command decides: it is the one that comes in order.
		space, key = locate(name, nil)
	}
	_, err = s.command(ctx, metadata.OpSetXattrs, metadata.SetXattrs{Ino: ino, Space: space, Name: key, Remove: true})
	return err
}
