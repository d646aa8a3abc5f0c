package placement

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

// Each file of testdata/describe begins with "$ arguments" and maybe classes, as
// STANDARD=EC:n; what follows is what is printed for them.
func TestDescribe(t *testing.T) {
	files, err := filepath.Glob("testdata/describe/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			have, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			head, want, _ := strings.Cut(string(have), "\n")
			var classes Classes
			var args []string
			for _, a := range strings.Fields(strings.TrimPrefix(head, "$")) {
				if v, ok := strings.CutPrefix(a, "STANDARD="); ok {
					classes.Standard = v
				} else if v, ok := strings.CutPrefix(a, "RRS="); ok {
					classes.RRS = v
				} else {
					args = append(args, a)
				}
			}
			l, err := New(args, classes)
			got := l.Describe()
			if err != nil {
				got = "refused: " + err.Error() + "\n"
			}
			if *rewrite {
				if err := os.WriteFile(f, []byte(head+"\n"+got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
}
