package history

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The checker itself: small histories, right and wrong, of what the model has to know.

// sequence makes a history of operations one after the other.
func sequence(events ...Event) *History {
	h := &History{Root: 10, Losses: true}
	for i, e := range events {
		if e.Op.N == 0 {
			e.Op.N = uint32(i + 1)
		}
		if e.Call == 0 {
			e.Call, e.Return = int64(10*i+1), int64(10*i+5)
		}
		if e.Out.Unknown {
			e.Return = never
		}
		h.Events = append(h.Events, e)
	}
	return h
}

func did(op Op, out Out) Event { return Event{Op: &op, Out: &out} }

func put(key string, token uint32) Event {
	return did(Op{Kind: Put, View: S3View, Key: key, Data: fill(token, 2), Meta: token}, Out{ETag: "e" + key})
}

func got(key string, c content, meta uint32) Event {
	return did(Op{Kind: Get, View: S3View, Key: key}, Out{Data: c, Size: c.len(), Meta: meta})
}

func lookup(view int, dir uint64, name string, ino uint64) Event {
	if ino == 0 {
		return did(Op{Kind: Lookup, View: view, Dir: dir, Name: name}, Out{Err: "ENOENT"})
	}
	return did(Op{Kind: Lookup, View: view, Dir: dir, Name: name}, Out{Ino: ino})
}

func wrote(view int, ino uint64, off int, token uint32) Event {
	return did(Op{Kind: Write, View: view, Ino: ino, Off: off, Data: fill(token, 1)}, Out{})
}

func read(view int, ino uint64, c content) Event {
	return did(Op{Kind: Read, View: view, Ino: ino, Len: maxRead}, Out{Data: c})
}

func absent(key string) Event {
	return did(Op{Kind: Get, View: S3View, Key: key}, Out{Err: "NoSuchKey"})
}

func renamed(dir uint64, from string, to uint64, name string) Event {
	return did(Op{Kind: Rename, Dir: dir, Name: from, ToDir: to, ToName: name}, Out{})
}

// unknown is an operation without an answer.
func unknown(e Event) Event {
	e.Out = &Out{Unknown: true}
	return e
}

func TestModel(t *testing.T) {
	zero := fill(0, 1)
	listed := func(flag bool, l ...Listed) Event {
		return did(Op{Kind: List, View: S3View, Flag: flag}, Out{List: l})
	}
	replaced := func(token uint32, err string) Event {
		return did(Op{Kind: Put, View: S3View, Key: "a", Data: fill(token, 1), Meta: token, IfETag: "ea", IfData: fill(1, 2)}, Out{Err: err})
	}
	cases := []struct {
		name  string
		h     *History
		right bool
	}{
		{"a GET sees the PUT", sequence(put("a", 1), got("a", fill(1, 2), 1)), true},
		{"a GET sees nothing of the PUT", sequence(put("a", 1), absent("a")), false},
		{"a GET sees write(2)", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 1, 2), got("a", fill(1, 1)+fill(2, 1), 1)), true},
		{"a GET misses write(2)", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 1, 2), got("a", fill(1, 2), 1)), false},
		{"metadata went with write(2)", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 1, 2), got("a", fill(1, 1)+fill(2, 1), 0)), false},
		{"a write behind the end leaves a hole", sequence(did(Op{Kind: Create, Dir: 10, Name: "a"}, Out{Ino: 20}), wrote(0, 20, 1, 3), read(1, 20, zero+fill(3, 1))), true},
		{"PUT makes another inode", sequence(put("a", 1), lookup(0, 10, "a", 20), put("a", 2), lookup(0, 10, "a", 20)), false},
		{"an open file keeps its content under a PUT", sequence(put("a", 1), lookup(0, 10, "a", 20), put("a", 2), read(0, 20, fill(1, 2)), got("a", fill(2, 2), 2)), true},
		{"one number is one inode", sequence(put("a", 1), put("b", 2), lookup(0, 10, "a", 20), lookup(0, 10, "b", 20)), false},
		{"an append is lost", sequence(put("a", 1), lookup(0, 10, "a", 20),
			did(Op{Kind: Append, Ino: 20, Data: fill(2, 1)}, Out{}), did(Op{Kind: Append, View: 1, Ino: 20, Data: fill(3, 1)}, Out{}), read(0, 20, fill(1, 2)+fill(3, 1))), false},

		{"a directory is renamed with what is in it", sequence(put("d/a", 1), lookup(0, 10, "d", 30), renamed(10, "d", 10, "e"), got("e/a", fill(1, 2), 1), absent("d/a")), true},
		{"an implied directory goes with its last object", sequence(put("d/a", 1), did(Op{Kind: Delete, View: S3View, Key: "d/a"}, Out{}), lookup(0, 10, "d", 0)), true},
		{"a directory stays that a mount changed", sequence(put("d/a", 1), lookup(0, 10, "d", 30),
			did(Op{Kind: Unlink, Dir: 30, Name: "a"}, Out{}), lookup(0, 10, "d", 0)), false},
		{"hard links are one file", sequence(put("a", 1), lookup(0, 10, "a", 20), did(Op{Kind: Link, Ino: 20, Dir: 10, Name: "l"}, Out{}),
			wrote(0, 20, 0, 2), got("l", fill(2, 1)+fill(1, 1), 1), did(Op{Kind: GetAttr, Ino: 20}, Out{Size: 2, Nlink: 2})), true},
		{"a listing", sequence(put("a", 1), put("d/a", 2), listed(false, Listed{Key: "a", Size: 2, ETag: "ea"}, Listed{Key: "d/a", Size: 2})), true},
		{"a listing with a delimiter", sequence(put("a", 1), put("d/a", 2), listed(true, Listed{Key: "a", Size: 2}, Listed{Key: "d/", Prefix: true})), true},
		{"a listing without one of two", sequence(put("a", 1), put("b", 2), listed(false, Listed{Key: "b", Size: 2})), false},
		{"an explicit directory is a key", sequence(did(Op{Kind: Mkdir, Dir: 10, Name: "d"}, Out{}), listed(false, Listed{Key: "d/"})), true},

		{"If-Match", sequence(put("a", 1), replaced(2, ""), got("a", fill(2, 1), 2)), true},
		{"If-Match after write(2)", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 3), replaced(2, "")), false},
		{"If-Match refused after write(2)", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 3), replaced(2, "PreconditionFailed")), true},
		{"If-Match refused for no reason", sequence(put("a", 1), replaced(2, "PreconditionFailed")), false},
		{"If-None-Match twice", sequence(did(Op{Kind: Put, View: S3View, Key: "a", Flag: true}, Out{}), did(Op{Kind: Put, View: S3View, Key: "a", Flag: true}, Out{})), false},
		{"an ETag changes without the content", sequence(put("a", 1), did(Op{Kind: Head, View: S3View, Key: "a"}, Out{Size: 2, Meta: 1, ETag: "other"})), false},

		{"an unknown PUT happened", sequence(unknown(put("a", 1)), absent("a"), got("a", fill(1, 2), 1)), true},
		{"an unknown PUT never happened", sequence(unknown(put("a", 1)), absent("a"), absent("a")), true},
		{"an unknown PUT is undone", sequence(unknown(put("a", 1)), got("a", fill(1, 2), 1), absent("a")), false},
		{"an unknown rename half happened", sequence(put("a", 1), lookup(0, 10, "a", 20), unknown(renamed(10, "a", 10, "b")), got("b", fill(1, 2), 1), got("a", fill(1, 2), 1)), false},

		{"what a killed mount held is lost", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2), wrote(0, 20, 1, 3),
			did(Op{Kind: Died, View: 0}, Out{}), got("a", fill(2, 1)+fill(1, 1), 1), got("a", fill(2, 1)+fill(1, 1), 1)), true},
		{"a later write is kept without the earlier one", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2), wrote(0, 20, 1, 3),
			did(Op{Kind: Died, View: 0}, Out{}), got("a", fill(1, 1)+fill(3, 1), 1)), false},
		{"the loss is undone", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2),
			did(Op{Kind: Died, View: 0}, Out{}), got("a", fill(1, 2), 1), got("a", fill(2, 1)+fill(1, 1), 1)), false},
		{"what was synced is lost", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2), did(Op{Kind: Fsync, Ino: 20}, Out{}),
			did(Op{Kind: Died, View: 0}, Out{}), got("a", fill(1, 2), 1)), false},
		{"what was seen is lost", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2), got("a", fill(2, 1)+fill(1, 1), 1),
			did(Op{Kind: Died, View: 0}, Out{}), got("a", fill(1, 2), 1)), false},
		{"a live mount loses a write", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2), got("a", fill(1, 2), 1)), false},
		{"a stopped mount loses a write", sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 0, 2),
			did(Op{Kind: Lossy, View: 0}, Out{}), got("a", fill(1, 2), 1), read(0, 20, fill(1, 2))), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			res := c.h.check(10 * time.Second)
			if (res == porcupine.Ok) != c.right || res == porcupine.Unknown {
				t.Errorf("%v, and it should be right=%v:", res, c.right)
				for _, l := range c.h.tail(20) {
					t.Log(l)
				}
			}
		})
	}
}

// TestOverlap: what overlaps may be in any order, what does not may not.
func TestOverlap(t *testing.T) {
	at := func(e Event, call, ret int64) Event { e.Call, e.Return = call, ret; return e }
	early := sequence(at(put("a", 1), 1, 2), at(put("a", 2), 10, 30), at(got("a", fill(2, 2), 2), 12, 14), at(got("a", fill(2, 2), 2), 16, 18))
	back := sequence(at(put("a", 1), 1, 2), at(put("a", 2), 10, 30), at(got("a", fill(2, 2), 2), 12, 14), at(got("a", fill(1, 2), 1), 16, 18))
	if early.check(time.Minute) != porcupine.Ok {
		t.Error("a GET may see a PUT that has not returned")
	}
	if back.check(time.Minute) != porcupine.Illegal {
		t.Error("the GET after it may not see the content before")
	}
	if short := back.shortest(time.Minute); short == nil || len(short.Events) != 4 {
		t.Errorf("the shortest wrong part is %v", short)
	}
}

// TestKept: a history that is kept is read as it was.
func TestKept(t *testing.T) {
	h := sequence(put("a", 1), lookup(0, 10, "a", 20), wrote(0, 20, 1, 2), got("a", fill(1, 2), 1))
	files, short, err := h.save(t.TempDir(), time.Minute)
	if err != nil || short == nil || len(files) != 3 {
		t.Fatalf("%v, %v, %v", files, short, err)
	}
	again, err := readHistory(files[0])
	if err != nil || again.check(time.Minute) != porcupine.Illegal || len(again.Events) != 4 {
		t.Fatalf("%v: %+v", err, again)
	}
}

// TestContent: bytes are what was written, or an error.
func TestContent(t *testing.T) {
	c := fill(7, 3).write(4, fill(8, 1)).store(1, 9).truncate(6)
	if s := c.String(); s != "[7 7/9 7 0 8 0]" {
		t.Fatal(s)
	}
	for _, size := range []int{64, 4096} {
		b := c.render(size)
		if got, err := parse(b, size); err != nil || got != c {
			t.Fatalf("%v, %v", got, err)
		}
		for _, bad := range [][]byte{b[:len(b)-8], append(append([]byte{}, b[:size*7/2]...), b[size*9/2:]...)} {
			if got, err := parse(bad, size); err == nil {
				t.Errorf("torn bytes were read as %v", got)
			}
		}
	}
	var back content
	text, _ := c.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != c {
		t.Fatalf("%v, %v", back, err)
	}
}
