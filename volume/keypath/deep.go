package keypath

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"twofold"
)

// maxDeepPrefix is the most bytes of directories in a deep key: a deep directory's
// "%tf-ino-", 16 digits and "/" still fit behind them.
const maxDeepPrefix = twofold.MaxKeyLen - len(escIno) - 16 - 1

// DeepKey returns the key that S3 shows for an inode whose full key (a directory's
// with "/" behind it) is longer than 1,024 bytes: the longest run of its
// directories that has at most 999 bytes, then "%tf-ino-" and the inode's number as
// 16 lower-case hexadecimal digits, then "/" for a directory. A key that fits is
// returned as it is. The inode's number makes it unique; it stays when the inode
// moves within its deep directory.
func DeepKey(key string, ino twofold.Ino) string {
	if len(key) <= twofold.MaxKeyLen {
		return key
	}
	dir := strings.HasSuffix(key, "/")
	n := strings.LastIndexByte(key[:maxDeepPrefix], '/') + 1 // 0: the bucket's root
	s := fmt.Sprintf("%s%s%016x", key[:n], escIno, uint64(ino))
	if dir {
		s += "/"
	}
	return s
}

// ParseDeepKey takes a deep key apart. It accepts only the form that DeepKey
// writes; whether the inode exists, has no shorter key, and has this one (DeepKey
// of its full key) is for the caller to check.
func ParseDeepKey(key string) (prefix string, ino twofold.Ino, isDir, ok bool) {
	s, isDir := strings.CutSuffix(key, "/")
	n := strings.LastIndexByte(s, '/') + 1
	if n > maxDeepPrefix || !Reserved(s[n:]) {
		return "", 0, false, false
	}
	v, err := strconv.ParseUint(s[n+len(escIno):], 16, 64)
	if err != nil {
		return "", 0, false, false
	}
	return s[:n], twofold.Ino(v), isDir, true
}

// Reserved reports whether a component has the form that ends deep keys. No entry
// may be made with it: S3 requests that would are refused (ReservedKey tells), and
// no name of the mount maps to it ("%tf-ino-..." there is a stray name), so a key of
// that form always means a deep inode.
func Reserved(comp string) bool {
	digits, ok := strings.CutPrefix(comp, escIno)
	if !ok || len(digits) != 16 || strings.ToLower(digits) != digits {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}

// ReservedKey reports whether any component of a key is Reserved.
func ReservedKey(key string) bool {
	if !strings.Contains(key, escIno) {
		return false
	}
	for c := range strings.SplitSeq(key, "/") {
		if Reserved(c) {
			return true
		}
	}
	return false
}
