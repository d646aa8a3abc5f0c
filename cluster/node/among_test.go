package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"twofold"
	"twofold/cluster/topology"
	"twofold/engine/drive"
	"twofold/engine/placement"
	"twofold/internal/errs"
	"twofold/internal/vfs"
	"twofold/metadata/kv"
	"twofold/metadata/replica"
)

// twoNodes are the options of one of two nodes with two drives each, in directories that
// are there and empty.
func twoNodes(t *testing.T, self int) *Options {
	t.Helper()
	dir := t.TempDir()
	var args []string
	for node := range 2 {
		for d := range 2 {
			path := filepath.Join(dir, fmt.Sprint("node", node+1), fmt.Sprint("d", d+1))
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			args = append(args, fmt.Sprintf("http://127.0.0.1:900%d%s", node+1, path))
		}
	}
	topo, err := topology.Parse(args, placement.Classes{})
	if err != nil {
		t.Fatal(err)
	}
	return &Options{
		Layout: topo.Layout, Logger: slog.New(slog.DiscardHandler), Say: func(string) {},
		Cluster: &Cluster{Topology: topo, Self: self},
	}
}

func formatAs(t *testing.T, cluster twofold.ClusterID, path string, at placement.Drive) drive.Format {
	t.Helper()
	f := drive.Format{
		Version: drive.FormatVersion, Cluster: cluster, Drive: twofold.NewUUID(),
		Pool: at.Set.Pool, Set: at.Set.Set, Index: at.Index, Sets: 1, SetSize: 4, Created: twofold.Now(),
	}
	if err := drive.WriteFormat(vfs.OS(), path, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestInspectNamesNodeAndPath: what can't be right is refused by a sentence with the node
// and the path in it.
func TestInspectNamesNodeAndPath(t *testing.T) {
	a, b := twofold.NewUUID(), twofold.NewUUID()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, own, others []placement.Drive)
		says  string // %s is the first drive's name
	}{
		"files": {func(t *testing.T, own, _ []placement.Drive) {
			if err := os.WriteFile(filepath.Join(own[0].Path, "holiday.jpg"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "%[1]s holds files that are not Twofold's (%[2]s has no format.json but is not empty: there is \"holiday.jpg\"). Give an empty"},
		"another node's drive": {func(t *testing.T, own, others []placement.Drive) {
			formatAs(t, a, own[0].Path, others[0])
		}, "%s is drive 1 of set 1/1, and the command line has that one on another node, as http://127.0.0.1:9001/"},
		"another store's drive": {func(t *testing.T, own, _ []placement.Drive) {
			formatAs(t, a, own[0].Path, own[0])
			formatAs(t, b, own[1].Path, own[1])
		}, "127.0.0.1:9002"},
	} {
		t.Run(name, func(t *testing.T) {
			o := twoNodes(t, 1)
			own := o.ownDrives()
			c.spoil(t, own, o.Cluster.Topology.Drives(0))
			_, err := o.inspect(vfs.OS())
			want := c.says
			want = strings.NewReplacer("%[1]s", "http://127.0.0.1:9002"+own[0].Path, "%[2]s", own[0].Path, "%s", "http://127.0.0.1:9002"+own[0].Path).Replace(want)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v\nwant: %s", err, want)
			}
		})
	}
}

// TestFormatIsDoneOver: a new store whose making was interrupted is made with the id and
// the drives that there are; drives of another one are not touched.
func TestFormatIsDoneOver(t *testing.T) {
	o := twoNodes(t, 1)
	own := o.ownDrives()
	cluster := twofold.NewUUID()
	before := formatAs(t, cluster, own[0].Path, own[0])
	n := &Node{opts: *o, log: o.Logger, fs: vfs.OS(), where: newWhere()}
	for range 2 {
		if err := n.formatOwn(cluster, 0); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range own {
		f, err := drive.ReadFormat(vfs.OS(), d.Path)
		if err != nil || f.Cluster != cluster || f.SetID() != d.Set || f.Index != d.Index {
			t.Errorf("%s: %+v, %v", d.Path, f, err)
		}
		if i == 0 && f.Drive != before.Drive {
			t.Errorf("the drive that was formatted is another one: %s, was %s", f.Drive, before.Drive)
		}
	}
	if r := n.meeting.reported(); r.Cluster != cluster || r.Begun || len(r.Drives) != 2 || r.Drives[0].Drive != before.Drive {
		t.Errorf("%+v", r)
	}
	if err := n.formatOwn(twofold.NewUUID(), 0); !errs.Is(err, errs.Invalid) {
		t.Errorf("formatted for another store: %v", err)
	}
}

// TestExistingStore: one report of a store that has begun is enough to know it, and drives
// of two stores are not taken for one.
func TestExistingStore(t *testing.T) {
	a, b := twofold.NewUUID(), twofold.NewUUID()
	n := &Node{opts: *twoNodes(t, 0)}
	fresh := report{Looked: true}
	formatted := report{Looked: true, Cluster: a}
	begun := report{Looked: true, Cluster: a, Begun: true}
	for name, c := range map[string]struct {
		mine, other report
		want        twofold.ClusterID
		says        string
	}{
		"nothing yet":            {fresh, fresh, twofold.ClusterID{}, ""},
		"formatted, not founded": {fresh, formatted, twofold.ClusterID{}, ""},
		"there is a store":       {fresh, begun, a, ""},
		"my store":               {formatted, begun, a, ""},
		"another store": {report{Looked: true, Cluster: b}, begun, a,
			"the drives here are of store " + b.String() + ", and those of http://127.0.0.1:9002 of store " + a.String()},
	} {
		got, err := n.existing(c.mine, map[int]report{0: c.mine, 1: c.other})
		if c.says == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhoLeads: what is said of a later term counts, whoever says it first, and wakes those
// who wait.
func TestWhoLeads(t *testing.T) {
	w := newWhere()
	_, changed := w.leading()
	if err := w.told(3, 1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was woken")
	}
	if err := w.told(2, 0); !errs.Is(err, errs.Stale) {
		t.Errorf("an earlier term: %v", err)
	}
	if err := w.told(3, -1); err != nil { // who does not know yet takes nothing back
		t.Error(err)
	}
	if node, _ := w.leading(); node != 1 {
		t.Errorf("node %d leads", node)
	}
	if err := w.told(4, -1); err != nil {
		t.Error(err)
	}
	if node, _ := w.leading(); node != -1 {
		t.Errorf("node %d leads, in a term of which nobody knows", node)
	}
}

// nobody is a wire that reaches no one.
type nobody struct{}

func (nobody) Send(context.Context, twofold.DriveID, replica.Kind, []byte) ([]byte, error) {
	return nil, errs.Newf("nobody", errs.Unavailable, "nobody is there")
}

func (nobody) Others() []twofold.DriveID { return nil }

// TestNoMembersAreNotBelieved: a node whose own replica went out knows of no replica in the
// group. It must not take that for a group without replicas, and have them made.
func TestNoMembersAreNotBelieved(t *testing.T) {
	g, err := replica.Open(t.Context(), replica.Options{
		NewMachine: func(kv.Store) (replica.StateMachine, error) { return nil, errors.New("no replica is opened") },
		Logger:     slog.New(slog.DiscardHandler), Wire: nobody{},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(context.Background())
	o := twoNodes(t, 0)
	n := &Node{opts: *o, group: g, log: o.Logger, where: newWhere(), slots: map[twofold.SetID][]*drive.Slot{}}
	for _, d := range o.Layout.Drives() {
		n.slots[d.Set] = append(n.slots[d.Set], drive.NewSlot(d.Set, d.Index, drive.NewAbsent(twofold.DriveID{}, d.Path)))
	}
	l := &Leading{n: n, term: 7}
	if missing, err := l.spreadReplicas(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%d replicas are missing, %v", missing, err)
	}
	if l.fewReplicas(t.Context()) {
		t.Error("it is taken for a store that was not founded")
	}
}
