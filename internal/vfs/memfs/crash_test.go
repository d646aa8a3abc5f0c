package memfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"twofold/internal/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(m *FS, name string) string {
	b, err := vfs.ReadFile(m, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func rnd(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// A file of which nothing was synced, one whose content was, and one that was synced
// with its name: what a crash may leave of each.
func TestCrashForgets(t *testing.T) {
	m := New()
	write := func(name string, sync bool) {
		f, err := m.Create(name)
		must(t, err)
		_, err = f.WriteAt([]byte("data"), 0)
		must(t, err)
		if sync {
			must(t, f.Sync())
		}
	}
	write("/named", true)
	write("/durable", true)
	must(t, m.SyncDir("/"))
	f, err := m.Create("/nameless")
	must(t, err)
	_, err = f.WriteAt([]byte("data"), 0)
	must(t, err)
	must(t, f.Sync())
	write("/nothing", false)
	must(t, m.Rename("/durable", "/moved"))
	must(t, m.Remove("/named"))

	none := m.Crash(rnd(1), 0)
	for name, want := range map[string]string{
		"/named": "data", "/durable": "data", "/nameless": "absent", "/nothing": "absent", "/moved": "absent",
	} {
		if got := read(none, name); got != want {
			t.Errorf("all forgotten: %s is %q, want %q", name, got, want)
		}
	}
	all := m.Crash(rnd(1), 1)
	for name, want := range map[string]string{
		"/named": "absent", "/durable": "absent", "/nameless": "data", "/nothing": "data", "/moved": "data",
	} {
		if got := read(all, name); got != want {
			t.Errorf("all kept: %s is %q, want %q", name, got, want)
		}
	}
	seen := make(map[string]bool)
	for seed := range uint64(200) {
		c := m.Crash(rnd(seed), 0.5)
		for _, name := range []string{"/named", "/durable", "/nameless", "/nothing", "/moved"} {
			seen[name+" "+read(c, name)] = true
		}
		if a, b := read(c, "/nameless"), read(c, "/nameless"); a != b || a != "absent" && a != "data" {
			t.Fatalf("synced content is torn: %q", a)
		}
	}
	for _, want := range []string{
		"/named data", "/named absent", "/durable data", "/durable absent", "/moved data", "/moved absent",
		"/nameless data", "/nameless absent", "/nothing data", "/nothing absent", "/nothing ", "/nothing \x00\x00\x00\x00",
	} {
		if !seen[want] {
			t.Errorf("200 crashes never showed %q", want)
		}
	}
}

// A page that is overwritten is old, new, or torn at a sector; and the same seed
// gives the same outcome.
func TestCrashTears(t *testing.T) {
	m := New()
	f, err := m.Create("/f")
	must(t, err)
	old, now := make([]byte, 2*page), make([]byte, 2*page)
	for i := range now {
		old[i], now[i] = 'a', 'b'
	}
	_, err = f.WriteAt(old, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	_, err = f.WriteAt(now, 0)
	must(t, err)
	torn, mixed := false, false
	for seed := range uint64(100) {
		got := read(m.Crash(rnd(seed), 0.5), "/f")
		if got != read(m.Crash(rnd(seed), 0.5), "/f") {
			t.Fatal("the same seed gave another outcome")
		}
		for i := 0; i < len(got); i += sector {
			for j := range sector {
				if got[i+j] != got[i] {
					t.Fatal("a sector is torn")
				}
			}
		}
		torn = torn || got[0] == 'b' && got[page-1] == 'a'
		mixed = mixed || got[0] != got[page]
	}
	if !torn || !mixed {
		t.Fatalf("100 crashes: torn pages %v, mixed pages %v", torn, mixed)
	}
}

func TestCapacityAndMounts(t *testing.T) {
	m := New()
	m.SetCapacity(100)
	f, err := m.Create("/f")
	must(t, err)
	if n, err := f.WriteAt(make([]byte, 150), 0); n != 100 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%d, %v", n, err)
	}
	must(t, m.Remove("/f"))
	if s, _ := m.StatFS("/"); s.Free != 100 {
		t.Fatalf("%d free", s.Free)
	}
	must(t, m.Mkdir("/mnt"))
	before, _ := m.Stat("/mnt")
	d := m.NewDisk()
	must(t, m.Mount("/mnt", d))
	must(t, vfs.WriteFile(m, "/mnt/f", []byte("on disk")))
	if i, _ := m.Stat("/mnt"); i.Dev == before.Dev {
		t.Fatal("a mounted disk has its own device number")
	}
	must(t, m.Unmount("/mnt"))
	if got := read(m, "/mnt/f"); got != "absent" {
		t.Fatalf("%q under the mount point", got)
	}
	must(t, m.Mount("/mnt", d))
	if got := read(m, "/mnt/f"); got != "on disk" {
		t.Fatalf("%q after the disk was mounted again", got)
	}
	m.SetReadOnly(true)
	if err := m.Mkdir("/x"); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
}
