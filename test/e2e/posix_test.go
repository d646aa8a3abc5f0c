package e2e

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"twofold/test/harness"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/posix/*.txt anew, from what the file system of the temporary directory does")

// TestSameAsExt4 runs scripts in the mount. What they say must be what they said on ext4,
// from which -rewrite records it.
func TestSameAsExt4(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming other users takes root")
	}
	harness.Need(t, "setfacl", "setfattr", "setpriv", "rsync")
	scripts, err := filepath.Glob("testdata/posix/*.sh")
	noErr(t, err)
	lib, err := os.ReadFile("testdata/posix/lib.sh")
	noErr(t, err)
	story := func(t *testing.T, script, dir string) string {
		t.Helper()
		text, err := os.ReadFile(script)
		noErr(t, err)
		noErr(t, os.MkdirAll(dir, 0o755))
		cmd := exec.Command("sh", "-c", string(lib)+string(text))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	var s *store
	if !*rewrite {
		s = newStore(t, harness.WithFlags("--allow-other"))
		letIn(s.Dir)
		s.bucket("posix")
	}
	for _, script := range scripts {
		name := strings.TrimSuffix(filepath.Base(script), ".sh")
		if name == "lib" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			golden := strings.TrimSuffix(script, ".sh") + ".txt"
			if *rewrite {
				dir := t.TempDir()
				letIn(dir)
				noErr(t, os.WriteFile(golden, []byte(story(t, script, dir)), 0o644))
				return
			}
			want, err := os.ReadFile(golden)
			noErr(t, err)
			compare(t, story(t, script, s.Path("posix", name)), string(want))
		})
	}
}

// compare shows the first lines that differ, with the command that they are of.
func compare(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	command, bad := "", 0
	for i := range max(len(g), len(w)) {
		a, b := "<end>", "<end>"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if strings.HasPrefix(b, "$ ") || strings.HasPrefix(b, "# ") {
			command = b
		}
		if a != b {
			t.Errorf("line %d, %s\n  got  %s\n  want %s", i+1, command, a, b)
			if bad++; bad == 20 {
				t.FailNow()
			}
		}
	}
}

// letIn lets other users reach a directory of a test.
func letIn(dir string) {
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
}
