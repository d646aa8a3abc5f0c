package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files and docs/sizing.md")

// planned runs `twofold plan` on a line of words; NAME=value before them are the
// environment. What is refused gives its sentence.
func planned(t *testing.T, line string) (out string, status int) {
	t.Helper()
	t.Setenv("S3_STORAGE_CLASS_STANDARD", "") // empty is unset
	t.Setenv("S3_STORAGE_CLASS_RRS", "")
	words := strings.Fields(line)
	for len(words) > 0 && strings.HasPrefix(words[0], "S3_") {
		k, v, _ := strings.Cut(words[0], "=")
		t.Setenv(k, v)
		words = words[1:]
	}
	var b bytes.Buffer
	c := rootCommand()
	c.SetArgs(append([]string{"plan"}, words...))
	c.SetOut(&b)
	if err := c.Execute(); err != nil {
		return b.String() + "twofold: " + err.Error() + "\n", statusOf(err)
	}
	return b.String(), 0
}

// Each file of testdata/plan begins with "$ twofold plan" and arguments; what follows
// is what is printed for them.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txt")
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
			got, status := planned(t, strings.Replace(strings.TrimPrefix(head, "$ "), "twofold plan ", "", 1))
			if strings.Contains(got, "twofold: ") && status != exitUsage {
				t.Errorf("exit status %d", status)
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

func TestPlanJSON(t *testing.T) {
	out, _ := planned(t, "--json --drive-size 1TB --simulate 1000 https://node{1...16}:443/d{1...200}")
	var p struct {
		Nodes    []string
		Drives   int
		Pools    []struct{ Sets, DrivesInSet, DataShards, ParityShards int }
		Capacity struct{ Raw, Usable int64 }
		Metadata struct {
			Replicas, NeededToWrite int
			Places                  []struct{ Node, Path string }
		}
		SurvivesLossOf struct{ Nodes, Drives struct{ Reads, Writes int } }
		Simulation     struct {
			Names     int
			LostNodes []struct{ Nodes, Choices, DataReadable, DataWritable, MetadataWritable, SetsAtReadQuorum, NamesNotReadable int }
		}
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err, out)
	}
	if len(p.Nodes) != 16 || p.Nodes[15] != "https://node16:443" || p.Drives != 3200 || p.Pools[0].Sets != 200 || p.Capacity.Usable != 2400e12 ||
		p.Metadata.Replicas != 9 || p.Metadata.Places[8].Node != "https://node9:443" {
		t.Errorf("%+v", p)
	}
	// The claim of docs/sizing.md: any 4 of 16 nodes may be lost at once.
	if s := p.SurvivesLossOf; s.Nodes.Reads != 4 || s.Nodes.Writes != 4 || s.Drives.Reads != 4 || s.Drives.Writes != 4 {
		t.Errorf("%+v", s)
	}
	if l := p.Simulation.LostNodes[3]; l.Nodes != 4 || l.Choices != 1820 || l.DataReadable != 1820 || l.DataWritable != 1820 || l.MetadataWritable != 1820 || l.SetsAtReadQuorum != 200 {
		t.Errorf("%+v", l)
	}
	if l := p.Simulation.LostNodes[4]; l.DataReadable != 0 || l.NamesNotReadable != 1000 {
		t.Errorf("%+v", l)
	}
}

func TestPlanUsage(t *testing.T) {
	for line, says := range map[string]string{
		"":                              "no drives given",
		"--simulate -1 d":               "--simulate -1",
		"--lost 2 d":                    "goes with --simulate",
		"--drive-size 0 d":              "--drive-size 0: it is more",
		"--drive-size 3EiB d{1...4}":    "the size 3EiB",
		"--drive-size 3000PiB d{1...4}": "less than 8 EiB",
		"--drive-size x d":              "the size x",
		"S3_STORAGE_CLASS_STANDARD=EC:9 d{1...4}": "EC:0 to EC:2",
		"http://a/d ./e": `"./e" is no URL`,
	} {
		if out, status := planned(t, line); status != exitUsage || !strings.Contains(out, says) {
			t.Errorf("%s: status %d, %s", line, status, out)
		}
	}
}
