package fusefs

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// mounted is a line of /proc/self/mountinfo, see proc(5).
type mounted struct {
	device string // major:minor
	path   string
	fstype string
}

func (m mounted) ours() bool { return m.fstype == "fuse."+fsName }

type mountList []mounted

// at is the topmost mount at exactly this path.
func (l mountList) at(path string) (m mounted, ok bool) {
	for _, e := range l {
		if e.path == path {
			m, ok = e, true
		}
	}
	return m, ok
}

func mountTable() (mountList, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

// parseMounts leaves out lines that it does not understand.
func parseMounts(r io.Reader) (l mountList, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		before, after, ok := strings.Cut(s.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 1 {
			continue
		}
		l = append(l, mounted{device: left[2], path: unescape(left[4]), fstype: right[0]})
	}
	return l, s.Err()
}

// unescape reads the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isDisconnected reports the error of a mount whose server is gone.
func isDisconnected(err error) bool {
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}
