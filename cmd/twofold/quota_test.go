package main

import (
	"strings"
	"testing"

	"twofold/volume/api"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "1000000": 1000000, "10GiB": 10 << 30, "10G": 10 << 30, "1.5k": 1536, "2MB": 2e6, "3 TiB": 3 << 40, "7b": 7, "0.5KiB": 512,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "1X", "1GiBB", "0", "0.1", "9999999999PiB", "1e9", "1.2.3", "GiB"} {
		if got, err := parseSize(in); err == nil || statusOf(err) != exitUsage {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
}

func TestQuotaText(t *testing.T) {
	got := quotaText(api.Quota{Bucket: "b", Used: 5 << 20, Reserved: 1 << 20, Limit: 10 << 20})
	for _, want := range []string{"quota     10485760 (10 MiB)\n", "used      5242880 (5 MiB) 50%\n", "reserved  1048576 (1 MiB)", "free      4194304 (4 MiB)\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := quotaText(api.Quota{Bucket: "b", Used: 5}); !strings.Contains(got, "none\nused      5\n") {
		t.Error(got)
	}
}
