package kv

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/ristretto/v2/z"
	"golang.org/x/sys/unix"

	"twofold/internal/errs"
)

// Badger writes every change to a memory-mapped log of its memtable as well. Nothing
// here ever reads such a log after a crash (see DESIGN.md, "What is trusted"), while
// a map of a file is a hazard: a full or failing drive under it is a SIGBUS in
// Badger's goroutine, which ends the process, and one that hangs blocks a thread in a
// page fault, which Go can't preempt, so that the next garbage collection stops the
// whole process for good. So the logs lie in memory: where Badger is going to make
// one, it finds a symbolic link to an anonymous file (memfd_create(2)).
//
// Only a checkpoint needs what is in them: it copies them through the links.

// logFiles is the memory behind a live directory's logs. Its methods are called by
// one goroutine at a time.
type logFiles struct {
	dir     string
	used    []logFile // Badger writes to the last one and flushes the others
	waiting []logFile // links that Badger has not followed yet, by number
	discard *os.File  // behind the statistics of the value log, which are mapped as well
}

// logFile is the memory behind one log.
type logFile struct {
	id   int
	file *os.File
}

// spareLogs is how many links wait for Badger before a batch, beside those for the
// memtables that the batch itself fills.
const spareLogs = 2

// discardName is what Badger calls its statistics of the value log.
const discardName = "DISCARD"

// prepareLogs does what has to be done before Badger opens dir. The logs that are
// there, copies in a checkpoint, are read once while Badger opens, and never written.
func prepareLogs(dir string) (*logFiles, error) {
	l := &logFiles{dir: dir}
	path := filepath.Join(dir, discardName)
	if err := removeIfThere(path); err != nil { // of no use: there is no value log
		return nil, err
	}
	var err error
	if l.discard, err = linkMemory(path); err != nil {
		return nil, err
	}
	return l, nil
}

// adopt moves the log that Badger made when it opened into memory. Nothing may have
// been written to it.
func (l *logFiles) adopt(db *badger.DB) (err error) {
	const op = "kv.logFiles.adopt"
	if l == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = errs.Newf(op, errs.Other, "this version of Badger is not laid out as expected: %v", r)
		}
	}()
	m := currentLog(db)
	id, ok := logID(filepath.Base(m.Fd.Name()))
	if !ok {
		return errs.Newf(op, errs.Other, "Badger's log is called %s", m.Fd.Name())
	}
	if err := removeIfThere(m.Fd.Name()); err != nil {
		return errs.E(op, errs.Other, err)
	}
	f, err := linkMemory(m.Fd.Name())
	if err != nil {
		return errs.E(op, errs.Other, err)
	}
	l.used = append(l.used, logFile{id, f})
	if _, err := f.Write(m.Data[:os.Getpagesize()]); err != nil { // the header, and zeros
		return errs.E(op, errs.Other, err)
	}
	if err := f.Truncate(int64(len(m.Data))); err != nil {
		return errs.E(op, errs.Other, err)
	}
	// In the place of the map of the file: Badger's slice stays as it is, and what it
	// does to it later (msync, munmap) is right for this one, too.
	_, err = unix.MmapPtr(int(f.Fd()), 0, unsafe.Pointer(&m.Data[0]), uintptr(len(m.Data)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		return errs.E(op, errs.Other, os.NewSyscallError("mmap", err))
	}
	return l.reserve(nil, nil)
}

// currentLog finds the map of the log that Badger writes to. It panics where it is
// not found.
func currentLog(db *badger.DB) *z.MmapFile {
	mt := reflect.ValueOf(db).Elem().FieldByName("mt").Elem()
	return *field[*z.MmapFile](mt.FieldByName("wal").Elem(), "MmapFile")
}

// reserve has links wait for all logs that Badger makes while it takes a batch, and
// gives the memory back that it no longer uses. ptrs are as in Badger.write.
func (l *logFiles) reserve(ops []Op, ptrs []*pointer) error {
	if l == nil {
		return nil
	}
	// A memtable is full when its log is, or its skip list, which has about a hundred
	// bytes for each entry.
	size := 0
	for i, op := range ops {
		size += len(op.Key) + 128
		if ptrs == nil || ptrs[i] == nil {
			size += len(op.Value)
		}
	}
	want := spareLogs + size/(memTableSize/2)
	moved := false
	for len(l.waiting) > 0 {
		info, err := l.waiting[0].file.Stat()
		if err != nil {
			return err
		}
		if info.Size() == 0 { // Badger gives it its size when it opens it
			break
		}
		l.used, l.waiting = append(l.used, l.waiting[0]), l.waiting[1:]
		moved = true
	}
	if moved {
		l.sweep()
	}
	for len(l.waiting) < want {
		id := 1 + l.used[len(l.used)-1].id
		if n := len(l.waiting); n > 0 {
			id = 1 + l.waiting[n-1].id
		}
		f, err := linkMemory(filepath.Join(l.dir, logName(id)))
		if err != nil && len(l.waiting) > want-spareLogs {
			return nil // a full drive, say: there are still enough for this batch
		} else if err != nil {
			return err
		}
		l.waiting = append(l.waiting, logFile{id, f})
	}
	return nil
}

// sweep closes the files of logs that Badger has flushed and removed. The memory is
// free once Badger has unmapped it as well.
func (l *logFiles) sweep() {
	last := l.used[len(l.used)-1].id
	l.used = slices.DeleteFunc(l.used, func(f logFile) bool {
		if f.id == last {
			return false
		}
		if _, err := os.Lstat(filepath.Join(l.dir, logName(f.id))); err == nil {
			return false
		}
		_ = f.file.Close()
		return true
	})
}

// close takes the links away, after Badger has closed.
func (l *logFiles) close() error {
	if l == nil {
		return nil
	}
	for _, f := range slices.Concat(l.used, l.waiting) {
		if err := removeIfThere(filepath.Join(l.dir, logName(f.id))); err != nil {
			return err
		}
		_ = f.file.Close()
	}
	_ = l.discard.Close()
	l.used, l.waiting = nil, nil
	return removeIfThere(filepath.Join(l.dir, discardName))
}

// symlink is os.Symlink; tests have it fail, as it does on a file system without links.
var symlink = os.Symlink

// linkMemory makes path a symbolic link to an anonymous file of no size. The link
// leads there as long as the file is open.
func linkMemory(path string) (*os.File, error) {
	fd, err := unix.MemfdCreate("twofold-"+filepath.Base(path), unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := symlink(fmt.Sprintf("/proc/self/fd/%d", fd), path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

const logSuffix = ".mem"

// logName is Badger's name of the log with a number.
func logName(id int) string { return fmt.Sprintf("%05d%s", id, logSuffix) }

func logID(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, logSuffix)
	id, err := strconv.Atoi(digits)
	return id, ok && err == nil
}

// warnMapped says that the logs stay files of the drive, where its file system has no
// symbolic links or there is no /proc.
func warnMapped(log *slog.Logger, dir string, err error) {
	log.Warn("the index's logs are mapped from the drive: if it fails or fills up, the process may have to start again", "dir", dir, "err", err)
}
