package replica

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"twofold/internal/errs"
)

func openDiskTest(t testing.TB, dir string) disk {
	t.Helper()
	log := testLogger(t)
	d, err := openDisk(dir, &raftLog{Logger: newRaftLog(log), log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func entries(term, from, to uint64) (list []*raft.Log) {
	for i := from; i <= to; i++ {
		list = append(list, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "%d/%d", term, i)})
	}
	return list
}

func checkLog(t *testing.T, d disk, index, term uint64) {
	t.Helper()
	var l raft.Log
	if err := d.GetLog(index, &l); err != nil {
		t.Fatalf("entry %d: %v", index, err)
	}
	if l.Term != term || string(l.Data) != fmt.Sprintf("%d/%d", term, index) {
		t.Errorf("entry %d is %d, %q", index, l.Term, l.Data)
	}
}

// TestTruncatedTail: a log whose tail was replaced by another leader's reads back
// after a restart (raft-wal 0.4.0 alone can't open such a segment).
func TestTruncatedTail(t *testing.T) {
	dir := t.TempDir()
	d := openDiskTest(t, dir)
	if err := d.StoreLogs(entries(1, 1, 10)); err != nil {
		t.Fatal(err)
	}
	for term := uint64(2); term < 5; term++ {
		if err := d.DeleteRange(8-term, 10); err != nil {
			t.Fatal(err)
		}
		if err := d.StoreLogs(entries(term, 8-term, 10)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		checkLog(t, d, 3, 1)
		checkLog(t, d, 4, 4)
		checkLog(t, d, 10, 4)
		d.Close()
		d = openDiskTest(t, dir)
		if last, _ := d.LastIndex(); last != 10 {
			t.Errorf("the log ends at %d", last)
		}
	}
	if err := d.DeleteRange(1, 6); err != nil { // the head, as after a snapshot
		t.Fatal(err)
	}
	d.Close()
	d = openDiskTest(t, dir)
	if first, _ := d.FirstIndex(); first != 7 {
		t.Errorf("the log begins at %d", first)
	}
	checkLog(t, d, 9, 4)
}

// TestLostSegment: a log whose file is gone is not an empty log.
func TestLostSegment(t *testing.T) {
	dir := t.TempDir()
	d := openDiskTest(t, dir)
	if err := d.StoreLogs(entries(1, 1, 10)); err != nil {
		t.Fatal(err)
	}
	d.Close()
	segs, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	for _, s := range segs {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
	log := testLogger(t)
	if _, err := openDisk(dir, &raftLog{Logger: newRaftLog(log), log: log}); !errs.Is(err, errs.Corrupt) {
		t.Errorf("without its segments the log opens: %v", err)
	}
}

// TestStable: the term and the vote survive, and a slot that is torn does not matter.
func TestStable(t *testing.T) {
	dir := t.TempDir()
	d := openDiskTest(t, dir)
	for i := range uint64(7) {
		if err := d.SetUint64([]byte("CurrentTerm"), i); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Set([]byte("LastVoteCand"), []byte("me")); err != nil {
		t.Fatal(err)
	}
	d.Close()
	newest, seq := "", uint64(0)
	for s := range uint64(2) {
		m, err := readSlot(filepath.Join(dir, slotName(s)))
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq > seq {
			newest, seq = filepath.Join(dir, slotName(s)), m.Seq
		}
	}
	d = openDiskTest(t, dir)
	if v, _ := d.GetUint64([]byte("CurrentTerm")); v != 6 {
		t.Errorf("the term is %d", v)
	}
	d.Close()
	// The last write was torn: what was before it counts.
	if err := os.Truncate(newest, 30); err != nil {
		t.Fatal(err)
	}
	d = openDiskTest(t, dir)
	if v, _ := d.GetUint64([]byte("CurrentTerm")); v != 6 {
		t.Errorf("the term is %d", v)
	}
	if v, _ := d.Get([]byte("LastVoteCand")); len(v) != 0 {
		t.Errorf("the vote is %q", v)
	}
}

// TestRemovedUnderneath: an fsync of a file that was removed is not an acknowledgement.
func TestRemovedUnderneath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drive")
	d := openDiskTest(t, dir)
	if err := d.StoreLogs(entries(1, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.StoreLogs(entries(1, 2, 2)); err == nil {
		t.Error("a write to a removed log succeeds")
	}
}

func TestAnchor(t *testing.T) {
	dir := t.TempDir()
	a, err := dropAnchor(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if _, err := dropAnchor(dir, nil); !errs.Is(err, errs.Busy) {
		t.Errorf("a second one: %v", err)
	}
	if err := a.holds(); err != nil {
		t.Error(err)
	}
	os.Rename(dir, dir+".away")
	if a.holds() == nil {
		t.Error("it holds in a directory that is gone")
	}
	os.Mkdir(dir, 0o700)
	os.WriteFile(filepath.Join(dir, anchorName), nil, 0o600)
	if a.holds() == nil {
		t.Error("it holds in another directory")
	}
}

func TestBusyClock(t *testing.T) {
	var b busyClock
	now := time.Now()
	if b.busyFor(now) != 0 {
		t.Error("busy from the start")
	}
	var ends []func()
	for range 6 {
		ends = append(ends, b.start())
	}
	if d := b.busyFor(now.Add(time.Minute)); d < 59*time.Second {
		t.Error(d)
	}
	for _, end := range ends {
		end()
	}
	if b.busyFor(now.Add(time.Minute)) != 0 {
		t.Error("busy after the end")
	}
}

// TestNothingIsMadeInPlaceOfADrive: a replica is made on its drive or nowhere.
func TestNothingIsMadeInPlaceOfADrive(t *testing.T) {
	base := t.TempDir()
	d := Dir{Path: filepath.Join(base, "gone")}
	o := Options{Logger: testLogger(t), NewMachine: newFake}
	if _, err := openNode(d, identity{}, &o, func(*node) {}); err == nil {
		t.Fatal("a replica was made where no drive is")
	}
	if left, err := os.ReadDir(base); err != nil || len(left) != 0 {
		t.Fatalf("%v was made, %v", left, err)
	}
}
