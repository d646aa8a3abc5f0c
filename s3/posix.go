package s3

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"twofold"
	"twofold/metadata"
)

// User metadata that sets a file's attributes, as rclone and s3fs write it.
const (
	metaMode  = "mode"  // rclone: octal st_mode or permissions; s3fs: decimal st_mode
	metaUID   = "uid"   // decimal
	metaGID   = "gid"   // decimal
	metaMtime = "mtime" // seconds since the epoch with an optional fraction, or RFC 3339
)

// Bits of st_mode, inode(7).
const (
	modeType  = 0o170000
	modeFIFO  = 0o010000
	modeChar  = 0o020000
	modeDir   = 0o040000
	modeBlock = 0o060000
	modeReg   = 0o100000
	modeLink  = 0o120000
	modeSock  = 0o140000
	modePerm  = 0o777 // set-id bits and types are never taken from a client
)

// posixOf reads the attributes in user metadata; nil where there are none. What
// cannot be understood stays plain metadata.
func posixOf(meta map[string]string) *metadata.PosixAttrs {
	if len(meta) == 0 {
		return nil
	}
	var p metadata.PosixAttrs
	if m, ok := parseMode(meta[metaMode]); ok {
		perm := m.bits & modePerm
		p.Mode = &perm
	}
	if v, ok := parseID(meta[metaUID]); ok {
		p.UID = &v
	}
	if v, ok := parseID(meta[metaGID]); ok {
		p.GID = &v
	}
	if v, ok := parseMtime(meta[metaMtime]); ok {
		p.Mtime = &v
	}
	if p == (metadata.PosixAttrs{}) {
		return nil
	}
	return &p
}

// withPosix returns the metadata with the attributes as they are now: what a PUT
// said may have been changed by a chmod or a touch since. Values that still agree
// are left as they were written.
func withPosix(meta map[string]string, now metadata.PosixAttrs) map[string]string {
	out := meta
	set := func(name, v string) {
		if v != out[name] {
			out = maps.Clone(out)
			out[name] = v
		}
	}
	if m, ok := parseMode(meta[metaMode]); ok && now.Mode != nil && m.bits&modePerm != *now.Mode&modePerm {
		set(metaMode, m.with(*now.Mode&modePerm))
	}
	if v, ok := parseID(meta[metaUID]); ok && now.UID != nil && v != *now.UID {
		set(metaUID, strconv.FormatUint(uint64(*now.UID), 10))
	}
	if v, ok := parseID(meta[metaGID]); ok && now.GID != nil && v != *now.GID {
		set(metaGID, strconv.FormatUint(uint64(*now.GID), 10))
	}
	if v, ok := parseMtime(meta[metaMtime]); ok && now.Mtime != nil && v != *now.Mtime {
		set(metaMtime, formatMtime(meta[metaMtime], *now.Mtime))
	}
	return out
}

// mode is a parsed mode, and how it was written.
type mode struct {
	bits    uint32
	decimal bool
	width   int // digits of an octal one
}

// with writes other permissions in the same way.
func (m mode) with(perm uint32) string {
	bits := m.bits&^modePerm | perm
	if m.decimal {
		return strconv.FormatUint(uint64(bits), 10)
	}
	return fmt.Sprintf("%0*o", m.width, bits)
}

// parseMode tells rclone's octal ("100644", "644") from s3fs's decimal ("33188")
// by the file type, which only one reading has. Five digits that are both are
// s3fs's: rclone writes five only for directories.
func parseMode(s string) (mode, bool) {
	if s == "" || len(s) > 8 {
		return mode{}, false
	}
	oct, octErr := strconv.ParseUint(s, 8, 32)
	dec, decErr := strconv.ParseUint(s, 10, 32)
	octal := mode{bits: uint32(oct), width: len(s)}
	switch {
	case octErr == nil && (oct <= 0o7777 || len(s) != 5 && typed(oct)):
		return octal, true
	case decErr == nil && typed(dec):
		return mode{bits: uint32(dec), decimal: true}, true
	case octErr == nil && typed(oct):
		return octal, true
	}
	return mode{}, false
}

// typed reports whether v is an st_mode with a file type.
func typed(v uint64) bool {
	if v > 0o177777 {
		return false
	}
	switch v & modeType {
	case modeFIFO, modeChar, modeDir, modeBlock, modeReg, modeLink, modeSock:
		return true
	}
	return false
}

// parseID reads a user or group id. The largest is chown(2)'s "leave it".
func parseID(s string) (uint32, bool) {
	v, err := strconv.ParseUint(s, 10, 32)
	return uint32(v), err == nil && v != math.MaxUint32
}

// parseMtime reads seconds with an optional fraction, to the nanosecond, or RFC 3339.
func parseMtime(s string) (twofold.Time, bool) {
	if s == "" || len(s) > 64 {
		return 0, false
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return inRange(t.Unix(), int64(t.Nanosecond()))
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, false
	}
	var nsec int64
	for i := 0; i < len(frac); i++ {
		if frac[i] < '0' || frac[i] > '9' {
			return 0, false
		}
		if i < 9 {
			nsec = nsec*10 + int64(frac[i]-'0')
		}
	}
	for i := len(frac); i < 9; i++ {
		nsec *= 10
	}
	if strings.HasPrefix(whole, "-") && nsec > 0 {
		sec, nsec = sec-1, 1e9-nsec // "-1.25" is 1.25 s before the epoch
	}
	return inRange(sec, nsec)
}

// inRange refuses times that nanoseconds since the epoch cannot hold, and zero,
// which means unset.
func inRange(sec, nsec int64) (twofold.Time, bool) {
	if sec >= math.MaxInt64/1_000_000_000 || sec <= math.MinInt64/1_000_000_000 {
		return 0, false
	}
	t := twofold.Time(sec*1e9 + nsec)
	return t, t != 0
}

// formatMtime writes t in the form that was has.
func formatMtime(was string, t twofold.Time) string {
	if strings.Contains(was, "T") {
		return t.Time().Format(time.RFC3339Nano)
	}
	sec, nsec := int64(t)/1e9, int64(t)%1e9
	sign := ""
	if t < 0 {
		sign, sec, nsec = "-", -sec, -nsec
	}
	if nsec == 0 {
		return sign + strconv.FormatInt(sec, 10)
	}
	return sign + strings.TrimRight(fmt.Sprintf("%d.%09d", sec, nsec), "0")
}
