package placement

import (
	"strings"
	"testing"

	"twofold"
	"twofold/internal/errs"
)

func TestNewErrors(t *testing.T) {
	for _, c := range []struct {
		args    string
		classes Classes
		says    string
	}{
		{"", Classes{}, "no drives were given"},
		{"http://node{1...4}/data{1...4}", Classes{}, "a store over many nodes comes in a later release"},
		{"https://a/b", Classes{}, "is a URL"},
		{"data{1...4} more", Classes{}, `"more" has no ellipsis, but "data{1...4}" has`},
		{"data{1...17}", Classes{}, "pool 1 (data{1...17}): 17 drives can't be divided"},
		{"data{1...4} data{4...7}", Classes{}, `"data4" and "data4" are the same directory`},
		{"a ./a/", Classes{}, `"a" and "./a/" are the same directory`},
		{"a b/c b", Classes{}, `"b/c" lies inside "b"`},
		{"a .", Classes{}, `"a" lies inside "."`},
		{"data{1..4}", Classes{}, "three dots"},
		{"d{1...8} e{1...4}", Classes{}, "pool 2 (e{1...4}) can't keep the parity of pool 1 (d{1...8}), EC:4: its sets have 4 drives, which bear EC:2; add at least 8 drives at once, or set S3_STORAGE_CLASS_STANDARD=EC:2"},
		{"d{1...4}", Classes{Standard: "EC:3"}, "S3_STORAGE_CLASS_STANDARD=EC:3 is too much for pool 1 (d{1...4}): with sets of 4 drives parity is EC:0 to EC:2"},
		{"d{1...4}", Classes{Standard: "2"}, `S3_STORAGE_CLASS_STANDARD: "2" is no storage class; write EC:`},
		{"d{1...4}", Classes{Standard: "EC:-1"}, "is no storage class"},
		{"d{1...4}", Classes{Standard: "EC:+1"}, "is no storage class"},
		{"d{1...4}", Classes{RRS: "EC:3"}, "S3_STORAGE_CLASS_RRS=EC:3 is more parity than STANDARD objects have (EC:2)"},
		{"d{1...4}", Classes{RRS: "EC:x"}, "S3_STORAGE_CLASS_RRS: "},
		{"d", Classes{Standard: "EC:1"}, "EC:0 to EC:0"},
	} {
		_, err := New(strings.Fields(c.args), c.classes)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("New(%q, %+v): %v", c.args, c.classes, err)
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		args          string
		classes       Classes
		pools, size   int
		standard, rrs int
	}{
		{"d", Classes{}, 1, 1, 0, 0},
		{"d1 d2 d3", Classes{}, 1, 3, 1, 1},
		{"d{1...4}", Classes{}, 1, 4, 2, 1},
		{"d{1...4} e{1...16}", Classes{}, 2, 4, 2, 1},
		{"d{1...4}", Classes{Standard: "EC:1"}, 1, 4, 1, 1},
		{"d{1...4}", Classes{Standard: "EC:0"}, 1, 4, 0, 0},
		{"d{1...8}", Classes{RRS: "EC:2"}, 1, 8, 4, 2},
		{". ../x", Classes{}, 1, 2, 1, 1},
	} {
		l, err := New(strings.Fields(c.args), c.classes)
		if err != nil || len(l.Pools) != c.pools || l.Pools[0].SetSize != c.size || l.Standard != c.standard || l.RRS != c.rrs {
			t.Errorf("New(%q, %+v) = %+v, %v", c.args, c.classes, l, err)
		}
	}
	l, err := New([]string{"d{1...4}", "e{1...24}"}, Classes{})
	if err != nil {
		t.Fatal(err)
	}
	last := l.Drives()[27]
	if want := (Drive{Path: "e24", Set: twofold.SetID{Pool: 1, Set: 1}, Index: 11}); last != want {
		t.Errorf("%+v", last)
	}
	if l.Parity("REDUCED_REDUNDANCY") != 1 || l.Parity("STANDARD") != 2 || l.Parity("") != 2 {
		t.Error("parity by class")
	}
}
