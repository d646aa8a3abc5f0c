package history

import (
	"encoding/binary"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// mapped is the file that clients of mount 0 map, and change in no other way. Its size
// never changes; a PUT gives the name to another file of that size.
const (
	mapped      = "m"
	mappedCells = 2
)

// mapping maps the file, stores and loads a few words, and unmaps it.
func (c *mountClient) mapping() {
	fd, ino, ok := c.open(place{c.root, c.rootIno}, mapped, unix.O_RDWR)
	if !ok {
		return
	}
	defer unix.Close(fd)
	b, err := unix.Mmap(fd, 0, mappedCells*c.cell, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		c.outcome("mmap", err)
		return
	}
	defer unix.Munmap(b)
	for range 1 + c.rng.IntN(3) {
		cell := c.rng.IntN(mappedCells)
		word := b[cell*c.cell:][:8]
		if c.rng.IntN(2) == 0 {
			op := &Op{Kind: Store, View: c.view, Ino: ino, Off: cell, Meta: c.rec.newToken()}
			c.rec.do(c.id, op, func() *Out { return store(word, b, op.Meta) })
			continue
		}
		op := &Op{Kind: Load, View: c.view, Ino: ino, Off: cell}
		c.rec.do(c.id, op, func() *Out { return loadWord(word) })
	}
}

// store stores a word and makes it durable. A page that can't be had is SIGBUS, which
// leaves the outcome open.
func store(word, b []byte, token uint32) (out *Out) {
	defer faults(&out)()
	binary.BigEndian.PutUint64(word, uint64(token)) // one instruction
	if err := unix.Msync(b, unix.MS_SYNC); err != nil {
		return &Out{Unknown: true, Err: err.Error()}
	}
	return &Out{}
}

func loadWord(word []byte) (out *Out) {
	defer faults(&out)()
	v := binary.BigEndian.Uint64(word)
	if v>>32 != 0 {
		return &Out{Torn: "a word that was never written"}
	}
	return &Out{Meta: uint32(v)}
}

// faults turns a SIGBUS into an unknown outcome.
func faults(out **Out) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if recover() != nil {
			*out = &Out{Unknown: true, Err: "SIGBUS"}
		}
	}
}
