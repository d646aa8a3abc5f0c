// Package layers tests the architecture: who may import whom, and what nobody may do.
package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "twofold"

// may says what a package's non-test files may import of the module: "p" is p and
// all below it, "p." is p alone. The longest key that fits a package is its rule.
// Everything may import the vocabulary (the root package) and internal/.
var may = map[string][]string{
	"internal":         {},
	"engine/erasure":   {"engine/drive.", "engine/erasure"},
	"engine/drive":     {"engine/drive"},
	"engine/placement": {},
	"engine/repair":    {"engine"},
	"engine":           {"engine/drive", "engine/erasure", "engine/placement", "engine/internal"},
	"engine/internal":  {"engine"},
	"metadata":         {"metadata"},
	"volume/api":       {"metadata."},
	"volume/keypath":   {"metadata."},
	"volume/lease":     {},
	"volume/locks":     {"volume/api."},
	"volume/remote":    {"volume/api", "volume/locks.", "metadata.", "cluster/rpc"},
	"volume":           {"volume/api", "volume/keypath", "volume/lease", "volume/locks", "metadata.", "engine."},
	"cluster/rpc":      {},
	"cluster/topology": {"engine/placement"},
	"cluster/peers":    {"cluster/rpc."},
	"cluster/info":     {},
	"cluster/node":     {"cluster/drives", "cluster/info.", "cluster/peers", "cluster/rpc", "cluster/topology", "engine", "metadata", "volume"},
	"cluster/drives":   {"engine/drive.", "cluster/rpc"},
	"cluster/plan":     {"cluster/topology", "engine/placement"},
	"cluster/forward":  {"cluster/rpc.", "s3/s3err.", "s3/wire."},
	"s3":               {"s3", "metadata.", "volume/api"},
	"fusefs":           {"fusefs/behind.", "volume/api", "metadata."},
	"fusefs/behind":    {"volume/api", "volume/keypath", "metadata."},
	"admin":            {"volume/api", "cluster/info.", "cluster/rpc"},
	"bench":            {},
	"cmd":              {"", "admin", "bench", "cluster", "engine", "fusefs", "metadata", "s3", "volume", "cmd"},
	"test":             {"", "admin", "bench", "cluster", "engine", "fusefs", "metadata", "s3", "volume", "test"},
}

// rule finds the longest key that fits.
func rule(pkg string) []string {
	best := ""
	for p := range may {
		if (pkg == p || strings.HasPrefix(pkg, p+"/")) && len(p) > len(best) {
			best = p
		}
	}
	return may[best]
}

func allowed(pkg, imp string) bool {
	if imp == "" || strings.HasPrefix(imp, "internal/") {
		return true
	}
	for _, l := range rule(pkg) {
		if alone, ok := strings.CutSuffix(l, "."); ok && imp == alone {
			return true
		}
		if imp == l || strings.HasPrefix(imp, l+"/") {
			return true
		}
	}
	return false
}

// files calls fn for each Go file of the module.
func files(t *testing.T, fn func(pkg, path string, f *ast.File)) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (strings.HasPrefix(n, ".") || n == "run" || n == "testdata" || n == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, filepath.Dir(path))
		if rel == "." {
			rel = ""
		}
		seen++
		fn(filepath.ToSlash(rel), path, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Fatalf("only %d files seen: the test looks in the wrong place", seen)
	}
}

func TestLayers(t *testing.T) {
	files(t, func(pkg, path string, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, i := range f.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			imp, ours := strings.CutPrefix(p, module)
			imp = strings.TrimPrefix(imp, "/")
			if ours && (imp == "" || strings.HasPrefix(p, module+"/")) && !allowed(pkg, imp) {
				t.Errorf("%s imports %s: not a way down (see the table in this test)", path, p)
			}
		}
	})
}

// TestBans: main is wiring read top-down; nothing happens by being imported.
func TestBans(t *testing.T) {
	files(t, func(pkg, path string, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function", path)
			}
		}
		for _, i := range f.Imports {
			if i.Path.Value == `"log"` && pkg != "fusefs" || i.Path.Value == `"unsafe"` && pkg != "metadata/kv" && !strings.HasPrefix(pkg, "fusefs") && !strings.HasPrefix(pkg, "internal") {
				t.Errorf("%s imports %s", path, i.Path.Value)
			}
		}
	})
}

// TestPackageComments: each package says what it is, once.
func TestPackageComments(t *testing.T) {
	has := map[string]bool{}
	files(t, func(pkg, path string, f *ast.File) {
		if !strings.HasSuffix(path, "_test.go") || strings.HasPrefix(pkg, "test/") {
			has[pkg] = has[pkg] || f.Doc != nil
		}
	})
	for pkg, ok := range has {
		if !ok {
			t.Errorf("package %q has no package comment", pkg)
		}
	}
}

// TestLicences: no AGPL module. The module cache has the text of each licence.
func TestLicences(t *testing.T) {
	b, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, banned := range []string{"github.com/minio/minio ", "github.com/minio/mc ", "github.com/minio/madmin-go", "github.com/minio/pkg", "github.com/juicedata/juicefs"} {
		if strings.Contains(string(b), banned) {
			t.Errorf("go.mod has %s", banned)
		}
	}
}
