package main

import (
	"strings"
	"testing"

	"twofold/internal/config"
)

// The commands that `make run` prints are to work as they are copied, with the
// credentials and the region that the server has.
func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		says string
	}{
		"default": {nil, "export AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin AWS_DEFAULT_REGION=us-east-1\n"},
		"own": {map[string]string{"S3_ROOT_USER": "alice", "S3_ROOT_PASSWORD": "correct-horse", "S3_REGION": "eu-west-1"},
			`export AWS_ACCESS_KEY_ID=alice AWS_SECRET_ACCESS_KEY="$S3_ROOT_PASSWORD" AWS_DEFAULT_REGION=eu-west-1` + "\n"},
	} {
		cfg, err := config.FromEnv(func(n string) (string, bool) { v, ok := c.env[n]; return v, ok })
		if err != nil {
			t.Fatal(err)
		}
		text := hintText(cfg, "127.0.0.1:9000", "/mnt/two")
		for _, want := range []string{c.says, "http://127.0.0.1:9000", "cat /mnt/two/photos/"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		if strings.Contains(text, "correct-horse") || strings.Contains(text, "%!") {
			t.Errorf("%s:\n%s", name, text)
		}
		if s := hintText(cfg, "127.0.0.1:9000", ""); strings.Contains(s, "directory") {
			t.Errorf("%s: without a mount:\n%s", name, s)
		}
	}
}
