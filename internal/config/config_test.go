package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"twofold/internal/errs"
)

func from(vars map[string]string) (Config, error) {
	return FromEnv(func(n string) (string, bool) { v, ok := vars[n]; return v, ok })
}

func TestDefaults(t *testing.T) {
	c, err := from(nil)
	if err != nil || c.Root != (Credentials{"minioadmin", "minioadmin", true}) || c.Region != "us-east-1" ||
		c.Domains != nil || c.Standard != "" || c.RRS != "" || c.Warnings != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := from(map[string]string{"S3_ROOT_USER": "minioadmin", "MINIO_ROOT_PASSWORD": "minioadmin"}); err != nil || !c.Root.Default {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestNames(t *testing.T) {
	for _, prefix := range []string{"S3_", "MINIO_"} {
		c, err := from(map[string]string{
			prefix + "ROOT_USER": "alice", prefix + "ROOT_PASSWORD": "correct horse", prefix + "DOMAIN": " S3.Example.com, localhost.,s3.example.com",
			prefix + "REGION": "eu-west-1", prefix + "STORAGE_CLASS_STANDARD": "EC:3", prefix + "STORAGE_CLASS_RRS": "EC:2",
		})
		if err != nil || c.Root != (Credentials{"alice", "correct horse", false}) || c.Region != "eu-west-1" ||
			!slices.Equal(c.Domains, []string{"s3.example.com", "localhost"}) || c.Standard != "EC:3" || c.RRS != "EC:2" || c.Warnings != nil {
			t.Errorf("%s: %+v, %v", prefix, c, err)
		}
	}
}

func TestBothNames(t *testing.T) {
	c, err := from(map[string]string{
		"S3_ROOT_USER": "alice", "MINIO_ROOT_USER": "alice", // the same: no warning
		"S3_ROOT_PASSWORD": "correct horse", "MINIO_ROOT_PASSWORD": "battery staple",
		"S3_REGION": "", "MINIO_REGION": "eu-west-1", // set and empty is unset
	})
	if err != nil || c.Root.SecretKey.Reveal() != "correct horse" || c.Region != "eu-west-1" {
		t.Errorf("%+v, %v", c, err)
	}
	want := "S3_ROOT_PASSWORD and MINIO_ROOT_PASSWORD are both set and differ; S3_ROOT_PASSWORD is used. Unset one of them."
	if !slices.Equal(c.Warnings, []string{want}) {
		t.Errorf("%q", c.Warnings)
	}
}

func TestRefusals(t *testing.T) {
	for says, vars := range map[string]map[string]string{
		"MINIO_ROOT_USER is set but S3_ROOT_PASSWORD is not":                  {"MINIO_ROOT_USER": "alice"},
		"S3_ROOT_PASSWORD is set but S3_ROOT_USER is not":                     {"S3_ROOT_PASSWORD": "topsecret"},
		"S3_ROOT_USER is too short: an access key has at least 3 characters.": {"S3_ROOT_USER": "ab", "S3_ROOT_PASSWORD": "topsecret"},
		"S3_ROOT_PASSWORD is too short":                                       {"S3_ROOT_USER": "alice", "S3_ROOT_PASSWORD": "secret7"},
		"MINIO_ROOT_PASSWORD has a line break":                                {"S3_ROOT_USER": "alice", "MINIO_ROOT_PASSWORD": "topsecret\n"},
		"S3_ROOT_USER has a blank":                                            {"S3_ROOT_USER": "al/ice", "S3_ROOT_PASSWORD": "topsecret"},
		`S3_DOMAIN: "https://a.com" is not a domain name`:                     {"S3_DOMAIN": "https://a.com"},
		`"a.com:9000" is not`:                                                 {"S3_DOMAIN": "a.com:9000"},
		`"10.0.0.1" is not`:                                                   {"S3_DOMAIN": "10.0.0.1"},
		`"a..com" is not`:                                                     {"S3_DOMAIN": "a..com"},
		`"s3.a.com" and "a.com" overlap`:                                      {"S3_DOMAIN": "a.com,s3.a.com"},
		`MINIO_REGION: "1 2" is not a region's name`:                          {"MINIO_REGION": "1 2"},
	} {
		c, err := from(vars)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %+v, %v", vars, c, err)
		}
		if err != nil && (strings.Contains(err.Error(), "topsecret") || strings.Contains(err.Error(), "secret7")) {
			t.Errorf("a secret in %v", err)
		}
	}
}

// A secret stays one through every door that a careless line could open.
func TestSecret(t *testing.T) {
	const value = "hunter2hunter2"
	c := Config{Root: Credentials{AccessKey: "alice", SecretKey: value}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", c, c.Root.SecretKey, &c.Root)
	}
	fmt.Fprintln(&out, c.Root.SecretKey, c.Root.SecretKey.String())
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", c.Root.SecretKey, "config", c)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", c.Root.SecretKey, "config", c)
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, cbor.Marshal} {
		b, err := marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, leak := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q in\n%s", leak, out.String())
		}
	}
	if c.Root.SecretKey.Reveal() != value {
		t.Error("Reveal")
	}
}
