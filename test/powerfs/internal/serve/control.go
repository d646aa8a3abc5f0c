package serve

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"twofold/test/powerfs/internal/disk"
)

// The control protocol: a command is a line of words, a word with blanks in it is
// quoted as in Go; the answer is a line, "ok JSON" or "error TEXT".
//
//	powercut SEED                                         -> the trees at rest, one per drive; the process ends
//	stop                                                  -> the same, with nothing forgotten
//	fault KIND [CLASS] [path=PATTERN] [drive=N] [count=N] -> id
//	clear [ID]
//	faults                                                -> those in force
//	corrupt DRIVE PATH OFFSET
//	sync [DRIVE]                                          everything that has reached the drive is durable
//	stats                                                 -> what is not durable, one per drive
const maxLine = 64 << 10

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go s.converse(c)
	}
}

func (s *server) converse(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		words, err := splitWords(lines.Text())
		var answer any
		if err == nil {
			answer, err = s.command(words)
		}
		if werr := reply(c, answer, err); werr != nil {
			s.log.Warn("control", "err", werr)
		}
		if e, ok := answer.(ending); ok {
			s.ended <- e.err
			return
		}
	}
}

// ending is the answer to a command that ends the process.
type ending struct {
	dirs []string
	err  error
}

// MarshalJSON implements json.Marshaler.
func (e ending) MarshalJSON() ([]byte, error) { return json.Marshal(e.dirs) }

func reply(w io.Writer, answer any, err error) error {
	if e, ok := answer.(ending); ok && err == nil {
		err = e.err
	}
	if err != nil {
		_, err = fmt.Fprintf(w, "error %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return err
	}
	if answer == nil {
		answer = struct{}{}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "ok %s\n", b)
	return err
}

func (s *server) command(words []string) (any, error) {
	if len(words) == 0 {
		return nil, errors.New("an empty command")
	}
	args := words[1:]
	switch words[0] {
	case "powercut":
		return s.powercut(args)
	case "stop":
		s.faults.clear(0)
		dirs, err := s.save()
		if err != nil && s.power.on() {
			return nil, err // busy: go on serving
		}
		return ending{dirs, err}, nil
	case "fault":
		return s.fault(args)
	case "clear":
		return nil, s.clear(args)
	case "faults":
		return s.faults.list(), nil
	case "corrupt":
		return nil, s.corrupt(args)
	case "sync":
		return nil, s.sync(args)
	case "stats":
		var all []disk.Stats
		for _, m := range s.mounts {
			all = append(all, m.disk.Stats())
		}
		return all, nil
	}
	return nil, fmt.Errorf("no command %q", words[0])
}

func (s *server) powercut(args []string) (any, error) {
	if len(args) != 1 {
		return nil, errors.New("powercut SEED")
	}
	seed, err := strconv.ParseUint(args[0], 0, 64)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	if !s.power.cut() {
		return nil, errors.New("the power is off already")
	}
	dirs, err := s.each(func(d *disk.Disk) (string, error) { return d.PowerCut(seed) })
	return ending{dirs, err}, nil
}

func (s *server) fault(args []string) (any, error) {
	f, err := parseFault(args, len(s.mounts))
	if err != nil {
		return nil, err
	}
	// What the kernel has cached would be read without meeting the fault.
	cached := f.Class == Read || f.Class == "" && (f.Kind == EIO || f.Kind == Hang)
	if cached {
		s.dropCaches(f)
	}
	id := s.faults.add(f)
	switch {
	case cached && f.Kind == Hang:
		go s.dropCaches(f) // it may have to wait for what hangs now
	case cached:
		s.dropCaches(f)
	}
	return id, nil
}

// dropCaches makes the kernel forget what a fault concerns.
func (s *server) dropCaches(f *Fault) {
	for _, m := range s.mounts {
		if f.Drive < 0 || f.Drive == m.drive {
			m.dropCaches(f.Path)
		}
	}
}

func (s *server) clear(args []string) error {
	id := 0
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n <= 0 {
			return fmt.Errorf("no fault %q", args[0])
		}
		id = n
	}
	if !s.faults.clear(id) && id != 0 {
		return fmt.Errorf("no fault %d", id)
	}
	return nil
}

// drive returns the mount with the number.
func (s *server) drive(arg string) (*mount, error) {
	n, err := strconv.Atoi(arg)
	if err != nil || n < 0 || n >= len(s.mounts) {
		return nil, fmt.Errorf("no drive %q", arg)
	}
	return s.mounts[n], nil
}

func (s *server) corrupt(args []string) error {
	if len(args) != 3 {
		return errors.New("corrupt DRIVE PATH OFFSET")
	}
	m, err := s.drive(args[0])
	if err != nil {
		return err
	}
	off, err := strconv.ParseInt(args[2], 0, 64)
	if err != nil || off < 0 {
		return fmt.Errorf("offset %q", args[2])
	}
	i, err := m.disk.Find(args[1])
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	// Before, so that nothing dirty is written over it afterwards; and after, so
	// that it is seen.
	m.invalidate(i)
	if err := i.Corrupt(off); err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	m.invalidate(i)
	return nil
}

func (s *server) sync(args []string) error {
	if len(args) == 0 {
		for _, m := range s.mounts {
			m.disk.SyncAll()
		}
		return nil
	}
	m, err := s.drive(args[0])
	if err != nil {
		return err
	}
	m.disk.SyncAll()
	return nil
}

// splitWords splits a line into words; a word that begins with a quote is a Go string.
func splitWords(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" {
			return words, nil
		}
		if line[0] != '"' {
			n := strings.IndexAny(line, " \t\r")
			if n < 0 {
				n = len(line)
			}
			words, line = append(words, line[:n]), line[n:]
			continue
		}
		q, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("bad quotes: %w", err)
		}
		w, err := strconv.Unquote(q)
		if err != nil {
			return nil, fmt.Errorf("bad quotes: %w", err)
		}
		words, line = append(words, w), line[len(q):]
	}
}
