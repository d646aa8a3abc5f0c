package powerfs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"twofold/test/powerfs/internal/disk"
	"twofold/test/powerfs/internal/serve"
)

// Faults, and the operations they hit.
type (
	// FaultKind is what happens: EIO, ENOSPC, ...
	FaultKind = serve.Kind
	// Class is what it happens to, for EIO and Hang: Read, Write, Fsync, Meta.
	Class = serve.Class
	// Stats count what is not durable on a drive.
	Stats = disk.Stats
)

const (
	EIO      = serve.EIO
	ENOSPC   = serve.ENOSPC
	EROFS    = serve.EROFS
	Hang     = serve.Hang
	ShortLie = serve.ShortLie

	Read  = serve.Read
	Write = serve.Write
	Fsync = serve.Fsync
	Meta  = serve.Meta
)

// Fault says what shall fail from now on. With the write-back cache, a write(2)
// meets no fault: the WRITE after it does, and the fsync tells.
type Fault struct {
	Kind  FaultKind
	Class Class  // "" is all
	Drive int    // AllDrives is all
	Path  string // pattern (path.Match) of the last component, of the path from the drive's root when there is a slash in it; "dir/**" is dir and all below; "" is all
	Count int    // so many operations, then it is over; 0 is until Clear
}

// PageSize and SectorSize are the units of forgetting and of tearing, in bytes.
const (
	PageSize   = disk.PageSize
	SectorSize = disk.SectorSize
)

// AllDrives is the Drive of a fault that hits all drives.
const AllDrives = -1

// Fault sets a fault; it is in force when Fault returns. The result is for ClearFault.
func (fs *FS) Fault(f Fault) (id int) {
	fs.t.Helper()
	words := []string{"fault", string(f.Kind)}
	if f.Class != "" {
		words = append(words, string(f.Class))
	}
	if f.Path != "" {
		words = append(words, "path="+f.Path)
	}
	words = append(words, fmt.Sprintf("drive=%d", f.Drive), fmt.Sprintf("count=%d", f.Count))
	fs.call(&id, words...)
	return id
}

// Clear ends all faults; what hung goes on.
func (fs *FS) Clear() { fs.t.Helper(); fs.call(nil, "clear") }

// ClearFault ends one fault.
func (fs *FS) ClearFault(id int) { fs.t.Helper(); fs.call(nil, "clear", strconv.Itoa(id)) }

// Corrupt flips all bits of the byte at off of a file, given by its path from the
// root of the drive. What is dirty in the kernel's cache is written back before.
func (fs *FS) Corrupt(drive int, path string, off int64) {
	fs.t.Helper()
	fs.call(nil, "corrupt", strconv.Itoa(drive), path, strconv.FormatInt(off, 10))
}

// Sync makes durable what has reached the drives, as a drive does in time. What is
// dirty in the kernel's cache has not.
func (fs *FS) Sync() { fs.t.Helper(); fs.call(nil, "sync") }

// Stats returns what is not durable, one for each drive.
func (fs *FS) Stats() (st []Stats) {
	fs.t.Helper()
	fs.call(&st, "stats")
	return st
}

func (fs *FS) call(out any, words ...string) {
	fs.t.Helper()
	if fs.proc == nil {
		fs.t.Fatal("powerfs: the power is off")
	}
	fs.must(fs.proc.client.call(out, words...))
}

// client speaks the control protocol, one connection a command.
type client struct{ socket string }

// callTime is how long a command may take; a cut rewrites whole files at most.
const callTime = 2 * time.Minute

func (c client) call(out any, words ...string) error {
	conn, err := net.Dial("unix", c.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(callTime))
	for n, w := range words {
		words[n] = strconv.Quote(w)
	}
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if text, bad := strings.CutPrefix(line, "error "); bad {
		return errors.New(strings.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal([]byte(strings.TrimPrefix(line, "ok ")), out)
}
