package fusefs

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"twofold"
	"twofold/volume/api"
)

// touch sets a file's modification time alone.
func touch(t *testing.T, path string, sec int64) {
	t.Helper()
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec}}, 0))
}

func wantMtime(t *testing.T, path string, sec int64) {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	if st.ModTime().Unix() != sec {
		t.Fatalf("mtime %v, want %d", st.ModTime(), sec)
	}
}

// TestHeldTime: the modification time of a file with unwritten bytes goes with them: it
// is no call of its own, shows at once here and to others, and a later write moves it.
func TestHeldTime(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	s3 := somebody{m.v.session()}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("one")
	must(t, err)
	st, err := f.Stat()
	must(t, err)
	before := ctime(t, m.path("f"))
	touch(t, m.path("f"), 1e9)
	wantMtime(t, m.path("f"), 1e9)
	if ctime(t, m.path("f")) <= before || st.ModTime().Unix() == 1e9 {
		t.Fatal("ctime has not moved")
	}
	if a, w := m.count("SetAttr"), m.count("Write"); a+w != 0 {
		t.Fatalf("%d calls of SetAttr, %d of Write", a, w)
	}
	if a := s3.find(t, "f"); a.Mtime != twofold.Time(1e18) || s3.get(t, "f") != "one" {
		t.Fatalf("somebody else sees %v, %q", a.Mtime, s3.get(t, "f"))
	}
	if n := m.count("SetAttr"); n != 0 {
		t.Fatalf("%d calls of SetAttr", n)
	}

	touch(t, m.path("f"), 2e9) // there is nothing that it could go with
	if a := s3.find(t, "f"); a.Mtime != twofold.Time(2e18) {
		t.Fatal("somebody else sees", a.Mtime)
	}
	_, err = f.WriteString("two")
	must(t, err)
	touch(t, m.path("f"), 3e9)
	_, err = f.WriteString("three")
	must(t, err)
	must(t, f.Sync())
	if a := s3.find(t, "f"); a.Mtime == twofold.Time(3e18) || a.Size != 11 {
		t.Fatal("a write has left the time at", a.Mtime)
	}
	_, err = f.WriteString("four")
	must(t, err)
	touch(t, m.path("f"), 0)
	must(t, f.Close())
	if a := s3.find(t, "f"); a.Mtime != 0 || a.Size != 15 {
		t.Fatal("the beginning of time is", a.Mtime)
	}
}

// TestHeldTimeBesideAFlush: a flush that is on its way has taken the time of before.
func TestHeldTimeBesideAFlush(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("one")
	must(t, err)
	sent, goOn := make(chan struct{}, 1), make(chan struct{})
	m.setHook(func(op string, _ twofold.Ino) error {
		if op == "Write" {
			sent <- struct{}{}
			<-goOn
		}
		return nil
	})
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	<-sent
	m.setHook(nil)
	set := make(chan struct{})
	go func() {
		defer close(set)
		touch(t, m.path("f"), 1e9)
	}()
	close(goOn)
	must(t, <-synced)
	<-set
	must(t, f.Close())
	wantMtime(t, m.path("f"), 1e9)
	if a := (somebody{m.v.session()}).find(t, "f"); a.Mtime != twofold.Time(1e18) {
		t.Fatal("the volume has", a.Mtime)
	}
}

// TestHeldAccessTime: the access time goes with the bytes, too, also where a truncate would
// have them forgotten.
func TestHeldAccessTime(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	s3 := somebody{m.v.session()}
	both := func(f *os.File, atime, mtime int64) {
		t.Helper()
		must(t, os.Chtimes(f.Name(), time.Unix(atime, 0), time.Unix(mtime, 0)))
		var st unix.Stat_t
		must(t, unix.Stat(f.Name(), &st))
		if st.Atim.Sec != atime || st.Mtim.Sec != mtime {
			t.Fatalf("times %d, %d, want %d, %d", st.Atim.Sec, st.Mtim.Sec, atime, mtime)
		}
	}
	write := func(f *os.File, data string) {
		t.Helper()
		_, err := f.WriteString(data)
		must(t, err)
	}
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	write(f, "one")
	both(f, 1e9, 2e9)
	if a, w := m.count("SetAttr"), m.count("Write"); a+w != 0 {
		t.Fatalf("%d calls of SetAttr, %d of Write", a, w)
	}
	if a := s3.find(t, "f"); a.Atime != twofold.Time(1e18) || a.Mtime != twofold.Time(2e18) || m.count("SetAttr") != 0 {
		t.Fatal("somebody else sees", a.Atime, a.Mtime)
	}
	write(f, "two")
	both(f, 3e9, 2e9)
	write(f, "three") // which does not set it
	must(t, f.Truncate(0))
	if a := s3.find(t, "f"); a.Atime != twofold.Time(3e18) || a.Size != 0 {
		t.Fatal("behind a truncate it is", a.Atime)
	}
	write(f, "four")
	both(f, 0, 0)
	must(t, f.Close())
	if a := s3.find(t, "f"); a.Atime != 0 || a.Mtime != 0 {
		t.Fatal("the beginning of time is", a.Atime, a.Mtime)
	}
}

// TestHeldOwner: a change of mode or owner to what they are is no call while there are
// bytes to flush, but any other is, also when somebody else has changed them meanwhile.
func TestHeldOwner(t *testing.T) {
	m := mountFake(t, newFakeVolume(), nil)
	f, err := os.OpenFile(m.path("f"), os.O_CREATE|os.O_WRONLY, 0600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("one")
	must(t, err)
	must(t, f.Chown(os.Getuid(), os.Getgid()))
	must(t, f.Chmod(0600))
	if n := m.count("SetAttr"); n != 0 {
		t.Fatalf("%d calls of SetAttr", n)
	}
	s3 := somebody{m.v.session()}
	mode := uint32(0644)
	_, err = s3.SetAttr(t.Context(), ino(t, m.path("f")), api.SetAttr{Mode: &mode})
	must(t, err)
	_, err = f.WriteString("two")
	must(t, err)
	must(t, f.Chmod(0600))
	must(t, f.Close())
	if a := s3.find(t, "f"); a.Mode != 0600 || m.count("SetAttr") != 1 {
		t.Fatalf("mode %o behind %d calls", a.Mode, m.count("SetAttr"))
	}
}

func ctime(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Ctim.Nano()
}

func ino(t *testing.T, path string) twofold.Ino {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return twofold.Ino(st.Ino)
}
