package replica

import (
	"encoding/binary"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/zeebo/xxh3"

	"twofold/internal/errs"
)

// A snapshot travels as one stream of its files:
//
//	"TFsnap01"
//	per file:  u16 length of the name | u64 length of the file | name | content
//	end:       u16 0                  | u64 xxh3-64 of everything before it
//
// Numbers are big-endian.
const (
	streamMagic   = "TFsnap01"
	streamHead    = 10
	maxStreamName = 64
	maxStreamFile = 8 << 30 // bytes of one file
	maxStreamAll  = 1 << 20 // files
)

// streamName reports whether a file of that name may be in a snapshot.
func streamName(s string) bool {
	if s == "" || len(s) > maxStreamName || s[0] == '.' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	}) < 0
}

// packer reads a snapshot's files as a stream. They are opened at once, so that it
// stays readable when a newer snapshot takes its place.
type packer struct {
	files []*os.File
	heads [][]byte
	size  int64
	sum   hash.Hash64
	body  io.Reader
	tail  *tailReader
}

// pack opens the files in dir.
func pack(dir string) (*packer, error) {
	names, err := streamFiles(dir)
	if err != nil {
		return nil, err
	}
	p := &packer{sum: xxh3.New(), size: int64(len(streamMagic)) + streamHead}
	parts := []io.Reader{strings.NewReader(streamMagic)}
	for _, name := range names {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			p.Close()
			return nil, err
		}
		p.files = append(p.files, f)
		info, err := f.Stat()
		if err != nil {
			p.Close()
			return nil, err
		}
		head := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
		head = binary.BigEndian.AppendUint64(head, uint64(info.Size()))
		head = append(head, name...)
		parts = append(parts, strings.NewReader(string(head)), io.LimitReader(f, info.Size()))
		p.size += int64(len(head)) + info.Size()
	}
	p.tail = &tailReader{sum: p.sum}
	p.body = io.MultiReader(io.TeeReader(io.MultiReader(parts...), p.sum), p.tail)
	return p, nil
}

func streamFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && streamName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Read implements io.Reader.
func (p *packer) Read(b []byte) (int, error) { return p.body.Read(b) }

// Close implements io.Closer.
func (p *packer) Close() error {
	var err error
	for _, f := range p.files {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	p.files = nil
	return err
}

// tailReader yields the stream's end once everything before it was read.
type tailReader struct {
	sum  hash.Hash64
	rest []byte
	made bool
}

func (t *tailReader) Read(b []byte) (int, error) {
	if !t.made {
		t.made = true
		t.rest = binary.BigEndian.AppendUint64(make([]byte, 2, streamHead), t.sum.Sum64())
	}
	if len(t.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// unpack writes a stream's files to dir. Nothing is fsynced. errs.Corrupt for
// anything but a whole stream; what was written by then stays.
func unpack(r io.Reader, dir string) error {
	const op = "replica.unpack"
	sum := xxh3.New()
	in := io.TeeReader(r, sum)
	magic := make([]byte, len(streamMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != streamMagic {
		return errs.Newf(op, errs.Corrupt, "not a snapshot's stream")
	}
	for range maxStreamAll {
		want := sum.Sum64()
		var head [streamHead]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return errs.E(op, errs.Corrupt, err)
		}
		n, size := int(binary.BigEndian.Uint16(head[:])), binary.BigEndian.Uint64(head[2:])
		if n == 0 {
			if size != want {
				return errs.Newf(op, errs.Corrupt, "a stream that does not match its hash")
			}
			return nil
		}
		if n > maxStreamName || size > maxStreamFile {
			return errs.Newf(op, errs.Corrupt, "a file with a name of %d bytes, of %d bytes", n, size)
		}
		name := make([]byte, n)
		if _, err := io.ReadFull(in, name); err != nil || !streamName(string(name)) {
			return errs.Newf(op, errs.Corrupt, "a file named %q", name)
		}
		if err := unpackFile(in, filepath.Join(dir, string(name)), int64(size)); err != nil {
			return errs.E(op, errs.KindOf(err), err)
		}
	}
	return errs.Newf(op, errs.Corrupt, "more than %d files", maxStreamAll)
}

func unpackFile(in io.Reader, path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(in, size))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && n != size {
		err = errs.Newf("replica.unpack", errs.Corrupt, "%d bytes of %d", n, size)
	}
	return err
}
