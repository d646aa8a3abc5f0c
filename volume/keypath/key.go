package keypath

import (
	"strings"
	"unicode/utf8"

	"twofold"
	"twofold/internal/errs"
)

// ValidKey checks what S3 clients send as a key: 1 to 1,024 bytes of UTF-8. errs:
// NameTooLong, Invalid.
func ValidKey(key string) error {
	const op = "keypath.ValidKey"
	switch {
	case key == "":
		return errs.Newf(op, errs.Invalid, "a key has at least one byte")
	case len(key) > twofold.MaxKeyLen:
		return errs.Newf(op, errs.NameTooLong, "a key has at most %d bytes, this one %d", twofold.MaxKeyLen, len(key))
	case !utf8.ValidString(key):
		return errs.Newf(op, errs.Invalid, "a key is UTF-8, this one is not")
	}
	return nil
}

// Split cuts a key into its components: the directories and the last one, which is
// a directory's where the key ends in "/". "a//b" is the file "b" in the directory
// "" in the directory "a"; "/" is the directory "". The key must not be empty.
func Split(key string) (dirs []string, base string, isDir bool) {
	key, isDir = strings.CutSuffix(key, "/")
	parts := strings.Split(key, "/")
	return parts[:len(parts)-1], parts[len(parts)-1], isDir
}

// Join is the inverse of Split.
func Join(dirs []string, base string, isDir bool) string {
	var b strings.Builder
	for _, d := range dirs {
		b.WriteString(d)
		b.WriteByte('/')
	}
	b.WriteString(base)
	if isDir {
		b.WriteByte('/')
	}
	return b.String()
}
