package fsm

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"twofold"
	"twofold/metadata"
	"twofold/metadata/kv"
)

// inodesRig has a bucket of n objects, of which every tenth is gone, made in an order that
// is not that of their keys where mixed; and a machine that
// keeps nothing of what it reads.
func inodesRig(t *testing.T, n int, mixed bool) (*Machine, *metadata.Bucket) {
	r := newRig(t)
	b := r.bucket("b")
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if mixed {
		rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	r.fill(b, n, func(i int) string { return fmt.Sprintf("d/n%04d", order[i]) })
	for i := 0; i < n; i += 10 {
		r.do(metadata.OpDeleteObject, metadata.DeleteObject{Bucket: b.ID, Key: twofold.Key(fmt.Sprintf("d/n%04d", i))})
	}
	m, err := New(r.store, Options{ViewBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	return m, b
}

// TestListingInodes: a page has the inodes that its entries name, however they lie.
func TestListingInodes(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		m, b := inodesRig(t, 400, mixed)
		for _, most := range []int{1, 7, 100, 1000} {
			err := m.View(func(v metadata.View) error {
				d, err := v.Lookup(b.Root, metadata.Name{Comp: "d"})
				if err != nil {
					return err
				}
				seen, cursor := 0, ""
				for more := true; more; {
					var items []metadata.DirItem
					if items, more, err = v.ReadDir(d.Ino, cursor, most, true); err != nil {
						return err
					}
					for _, it := range items {
						want, err := v.Inode(it.Ino)
						if err != nil || !reflect.DeepEqual(it.Inode, want) || want.Name != it.Cursor {
							t.Fatalf("%q has the inode %+v, want %+v, %v", it.Cursor, it.Inode, want, err)
						}
						cursor = it.Cursor
					}
					seen += len(items)
				}
				if seen != 360 {
					t.Fatalf("%d entries", seen)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestListingReadsTogether: a page of a thousand does not take a thousand gets.
func TestListingReadsTogether(t *testing.T) {
	m, b := inodesRig(t, 1000, false)
	gets := 0
	m.store = getCounter{m.store, &gets}
	pages := map[string]func(v metadata.View) (int, error){
		"ReadDir": func(v metadata.View) (int, error) {
			d, err := v.Lookup(b.Root, metadata.Name{Comp: "d"})
			if err != nil {
				return 0, err
			}
			items, _, err := v.ReadDir(d.Ino, "", 1000, true)
			return len(items), err
		},
		"List": func(v metadata.View) (int, error) {
			p, err := v.List(b.ID, metadata.ListQuery{Max: 1000})
			if err != nil {
				return 0, err
			}
			for _, it := range p.Items {
				if it.Inode == nil {
					t.Errorf("%q has no inode", it.Key)
				}
			}
			return len(p.Items), nil
		},
	}
	for name, page := range pages {
		gets = 0
		var n int
		if err := m.View(func(v metadata.View) (err error) { n, err = page(v); return err }); err != nil {
			t.Fatal(name, err)
		}
		if n != 900 || gets > 20 {
			t.Errorf("%s: %d entries took %d gets", name, n, gets)
		}
	}
}

// TestObjectsBesideDirectories: whether a directory has an object's name too is known also
// where the page ends between the two, and takes no read of its own where it doesn't.
func TestObjectsBesideDirectories(t *testing.T) {
	r := newRig(t)
	b := r.bucket("b")
	for i := range 30 {
		k := fmt.Sprintf("d/n%02d", i)
		keys := []string{k, k + "-", k + "."} // both sort before the directory's name with its slash
		if i%3 == 0 {
			keys = append(keys, k+"/x")
		}
		for _, k := range keys {
			r.do(metadata.OpPutObject, smallPut(b, k, 0))
		}
	}
	r.view(func(v metadata.View) {
		d, err := v.Lookup(b.Root, metadata.Name{Comp: "d"})
		if err != nil {
			t.Fatal(err)
		}
		for most := 1; most < 130; most += 3 {
			cursor, seen := "", 0
			for more := true; more; {
				var items []metadata.DirItem
				if items, more, err = v.ReadDir(d.Ino, cursor, most, false); err != nil {
					t.Fatal(err)
				}
				for _, it := range items {
					cursor = it.Cursor
					seen++
					var i int
					var rest string
					fmt.Sscanf(it.Name.Comp, "n%02d%s", &i, &rest)
					if want := it.Type != metadata.TypeDir && rest == "" && i%3 == 0; it.Name.File != want {
						t.Fatalf("by %d: %q has File %v", most, it.Cursor, it.Name.File)
					}
				}
			}
			if seen != 100 {
				t.Fatalf("by %d: %d entries", most, seen)
			}
		}
	})
}

// getCounter counts gets.
type getCounter struct {
	kv.Store
	n *int
}

func (s getCounter) View(fn func(kv.Reader) error) error {
	return s.Store.View(func(r kv.Reader) error { return fn(getReader{r, s.n}) })
}

type getReader struct {
	kv.Reader
	n *int
}

func (r getReader) Get(key []byte) ([]byte, error) {
	*r.n++
	return r.Reader.Get(key)
}
