package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseSource(t *testing.T) {
	for in, want := range map[string]source{
		"localhost":                      {host: "localhost:9000"},
		"localhost/":                     {host: "localhost:9000"},
		"http://host:80":                 {host: "host:80"},
		"host:80/b":                      {host: "host:80", bucket: "b"},
		"host:80/b/":                     {host: "host:80", bucket: "b"},
		"[::1]:80/b/p":                   {host: "[::1]:80", bucket: "b", prefix: "p"},
		"[::1]/b":                        {host: "[::1]:9000", bucket: "b"},
		"http://10.0.0.1:9/b/a b/%2f#?/": {host: "10.0.0.1:9", bucket: "b", prefix: "a b/%2f#?"},
		"h/b/a//c":                       {host: "h:9000", bucket: "b", prefix: "a//c"},
		"a,b:80/b":                       {host: "a:9000,b:80", bucket: "b"},
		"http://a,http://b:80":           {host: "a:9000,b:80"},
		"a,http://[::1]:80/b/p,http://q": {host: "a:9000,[::1]:80", bucket: "b", prefix: "p,http://q"},
	} {
		if got, err := parseSource(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for in, says := range map[string]string{
		"": "looks like", "/b": "looks like", "http://": "looks like", "h://x": "no TLS", "https://h/b": "no TLS",
		"h:80//p": "no bucket", "u:secret-word@h/b": "credentials", ":80": "looks like", "a:b:c": "looks like",
		"a,/b": "looks like", ",a": "looks like", "a,https://b/c": "no TLS",
	} {
		_, err := parseSource(in)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret-word") {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestEndpointSource(t *testing.T) {
	one, two := []string{"http://a:1"}, []string{"http://a:1/", "http://b:2"}
	for _, c := range []struct {
		endpoints  []string
		path, want string
		parsed     source
	}{
		{one, "", "http://a:1", source{host: "a:1"}},
		{one, "photos", "http://a:1/photos", source{host: "a:1", bucket: "photos"}},
		{two, "", "http://a:1,b:2", source{host: "a:1,b:2"}},
		{two, "photos/2024/x:y", "http://a:1,b:2/photos/2024/x:y", source{host: "a:1,b:2", bucket: "photos", prefix: "2024/x:y"}},
	} {
		got, err := endpointSource(c.endpoints, c.path)
		if err != nil || got != c.want {
			t.Errorf("%q, %v", got, err)
		}
		if src, err := parseSource(got); err != nil || src != c.parsed {
			t.Errorf("%s: %+v, %v", got, src, err)
		}
	}
	for path, says := range map[string]string{"host:80/photos": "not both", "": "http://HOST:PORT"} {
		e := one
		if path == "" {
			e = []string{"a:1"}
		}
		if _, err := endpointSource(e, path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestMountHelperOptions(t *testing.T) {
	for in, want := range map[string]string{
		"": "",
		"rw,noauto,_netdev,nofail,user=me,x-systemd.automount,X-mount.mkdir=0755,comment=a,noatime,nosuid,nodev": "",
		"defaults,ro":        "--read-only",
		"pages":              "--pages",
		"no_write_behind,ro": "--no-write-behind --read-only",
		"ro,rw":              "",
		"uid=1,gid=users,umask=077,allow_other,noexec": "--owner 1 --group users --umask 077 --allow-other --no-exec",
		`credentials=/etc/a\,b`:                        "--credentials /etc/a,b",
		`credentials="/etc/a,b",ro`:                    "--credentials /etc/a,b --read-only",
	} {
		got, err := helperFlags(splitOptions(in), false)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	for in, says := range map[string]string{
		"nonsense": "no option", "uid": "no value", "credentials=": "no value", "credentials=etc/x": "absolute",
		"remount": "unmount and mount again", "password=hunter22": "everybody sees",
	} {
		_, err := helperFlags(splitOptions(in), false)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v", in, err)
		}
	}
	if got, err := helperFlags([]string{"nonsense", "ro"}, true); err != nil || !slices.Equal(got, []string{"--read-only"}) {
		t.Errorf("sloppy: %q, %v", got, err)
	}
}

func TestMountHelperWords(t *testing.T) {
	h, err := parseHelper([]string{"h/b", "/mnt", "-fsv", "-o", "ro", "-tfuse.twofold", "-n", "-oallow_other"})
	if err != nil || h.source != "h/b" || h.dir != "/mnt" || !h.fake || !h.sloppy || !h.verbose ||
		!slices.Equal(h.flags, []string{"--allow-other", "--read-only"}) {
		t.Errorf("%+v, %v", h, err)
	}
	for _, args := range [][]string{{}, {"h/b"}, {"h", "/a", "/b"}, {"h", "/a", "-o"}, {"h", "/a", "-z"}, {"h", "/a", "-N", "1"}, {"u@h", "/a"}} {
		if _, err := parseHelper(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestCredentialsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := credentialFlags{file: file}
	write("# ours\n\nS3_ROOT_USER = \"x\"\n", 0o600)
	write("; ours\n\nS3_ROOT_USER=someone\nS3_ROOT_PASSWORD='a=b c d e'\n", 0o640)
	if vars, err := readCredentials(file); err != nil || vars["S3_ROOT_USER"] != "someone" || vars["S3_ROOT_PASSWORD"] != "a=b c d e" {
		t.Errorf("%v, %v", vars, err)
	}
	if _, err := c.secret(); err != nil {
		t.Error(err)
	}
	for _, bad := range []struct {
		text string
		mode os.FileMode
		says string
	}{
		{"S3_ROOT_USER=someone\nS3_ROOT_PASSWORD=hunter22hunter22\n", 0o644, "chmod 600"},
		{"S3_ROOT_USER=someone\nhunter22hunter22\n", 0o600, "line 2"},
		{"S3_ROOT_USER=someone\n", 0o600, "S3_ROOT_PASSWORD is not"},
		{"", 0o600, "no line S3_ROOT_USER"},
		{"S3_ROOT_USER=someone\nS3_ROOT_PASSWORD=short\n", 0o600, "at least 8"},
	} {
		write(bad.text, bad.mode)
		if _, err := c.secret(); err == nil || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%q, %o: %v", bad.text, bad.mode, err)
		}
	}
}
