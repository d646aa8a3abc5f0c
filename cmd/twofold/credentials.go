package main

import (
	"bufio"
	"bytes"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"twofold/cluster/rpc"
	"twofold/internal/config"
)

// credentialFlags say who the command is to the server: the environment, or a file. No
// flag takes a password, because everybody sees command lines.
type credentialFlags struct{ file string }

func (c *credentialFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.file, "credentials", "", "`FILE` with lines S3_ROOT_USER=... and S3_ROOT_PASSWORD=... (default: the environment)")
}

// secret is what is proved to the server.
func (c *credentialFlags) secret() (rpc.Secret, error) {
	lookup := os.LookupEnv
	if c.file != "" {
		vars, err := readCredentials(c.file)
		if err != nil {
			return rpc.Secret{}, err
		}
		lookup = func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	}
	cfg, err := config.FromEnv(lookup)
	if err != nil && c.file != "" {
		return rpc.Secret{}, usage("--credentials %s: %w", c.file, plain(err))
	}
	if err != nil {
		return rpc.Secret{}, usage("%w", plain(err))
	}
	return rpc.NewSecret(cfg.Root.AccessKey, cfg.Root.SecretKey.Reveal())
}

// readCredentials reads a file of NAME=VALUE lines, as systemd.exec(5)'s EnvironmentFile
// has them: empty lines and those that begin with "#" or ";" are nothing, and a value may
// stand in quotes. A file that everybody may read is refused. No error has a value in it.
func readCredentials(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usage("--credentials: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, usage("--credentials: %w", err)
	}
	if st.Mode().IsRegular() && st.Mode()&0o007 != 0 {
		return nil, usage("--credentials %s: everybody may use it: chmod 600 %s", file, file)
	}
	vars := map[string]string{}
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(string(bytes.TrimPrefix(s.Bytes(), []byte("\xef\xbb\xbf"))))
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, usage("--credentials %s: line %d is not NAME=VALUE", file, n)
		}
		if v := value; len(v) > 1 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
			value = v[1 : len(v)-1]
		}
		vars[strings.TrimSpace(name)] = value
	}
	if err := s.Err(); err != nil {
		return nil, usage("--credentials %s: %w", file, err)
	}
	if vars["S3_ROOT_USER"] == "" && vars["MINIO_ROOT_USER"] == "" {
		return nil, usage("--credentials %s: there is no line S3_ROOT_USER=... in it", file)
	}
	return vars, nil
}
