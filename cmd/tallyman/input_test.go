package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/sample"
)

// TestManyFiles has several files and folders be one job, of which each finding names its file.
func TestManyFiles(t *testing.T) {
	t.Parallel()
	good, made := collection(t, sample.Config{Documents: 5})
	folder := filepath.Join(t.TempDir(), "corpus")
	for name, content := range map[string]string{
		"b/2.json": "[\n{},\n{\"sourcedb\":\"PMC\",\"sourceid\":\"1\",\"text\":\"a\"}\n]", "a.jsonl": "\n{}\n", "paper.pdf": "%PDF-1.7\n", ".hidden": "x",
	} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(good, filepath.Join(folder, "link.jsonl")); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(folder, "data") // which is not sent
	want := []string{"corpus/a.jsonl:2 MISSING_SOURCEDB", "corpus/a.jsonl:2 MISSING_SOURCEID", "corpus/a.jsonl:2 MISSING_TEXT",
		"corpus/b/2.json:2 MISSING_SOURCEDB", "corpus/b/2.json:2 MISSING_SOURCEID", "corpus/b/2.json:2 MISSING_TEXT",
		"corpus/link.jsonl:1 UNSAFE_ENTRY", "corpus/paper.pdf:1 NOT_JSON"}
	must(t, exitWithErrors, "run", folder, good, "--data", data)
	jobs := objects(t, must(t, exitOK, "jobs", "--data", data, "-o", "json").stdout)
	if len(jobs) != 1 || jobs[0]["fileName"] != nil && jobs[0]["fileName"] != "corpus and 1 more" || jobs[0]["project"] != "corpus" {
		t.Fatalf("jobs: %v", jobs)
	}
	for verb, args := range map[string][]string{"findings": {"findings", "--data", data}, "check": {"check", folder, good, "--data", data}} {
		var got []string
		for _, f := range objects(t, tallyman(t, append(args, "-o", "json")...).stdout) {
			got = append(got, fmt.Sprintf("%s:%s %s", f["file"], f["line"], f["code"]))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
	}
	exported := must(t, exitOK, "export", "--project", "corpus", "--data", data).stdout
	if n := strings.Count(exported, "\n"); n != int(made.Documents)+1 {
		t.Errorf("%d documents stored, want %d", n, made.Documents+1)
	}

	missing, empty := filepath.Join(t.TempDir(), "missing.jsonl"), t.TempDir()
	for _, verb := range []string{"run", "check"} {
		none := filepath.Join(t.TempDir(), "none")
		for said, args := range map[string][]string{
			missing:         {good, missing, empty},
			"no files":      {empty},
			"standard":      {good, "-"},
			"both be":       {good, filepath.Join(filepath.Dir(good), "x", "..", filepath.Base(good))},
			"sent as well":  {folder, filepath.Join(folder, "a.jsonl")},
			"only be sent ": {good, os.DevNull},
		} {
			r := tallyman(t, append([]string{verb, "--data", none}, args...)...)
			if r.code == exitOK || !strings.Contains(r.stderr, said) || r.stdout != "" {
				t.Errorf("%s %v: exit code %d, stdout %q, stderr %q; want an error with %q", verb, args, r.code, r.stdout, r.stderr, said)
			}
		}
		if _, err := os.Stat(none); err == nil {
			t.Errorf("%s began something", verb)
		}
	}
}

// TestSourceIDFromName has documents be known by the names of their files, in a folder, in an archive, and to check.
func TestSourceIDFromName(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "corpus")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"101.json", "PMID:102.jsonl"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(`{"text":"some text"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	must(t, exitWithErrors, "check", folder, "--sourcedb", "PubMed")
	must(t, exitOK, "check", folder, "--sourcedb", "PubMed", "--sourceid-from-name")
	must(t, exitOK, "run", folder, "--sourcedb", "PubMed", "--sourceid-from-name", "--data", data)
	var got []string
	for _, d := range objects(t, must(t, exitOK, "export", "--project", "corpus", "--data", data).stdout) {
		got = append(got, fmt.Sprintf("%v:%v", d["sourcedb"], d["sourceid"]))
	}
	if diff := cmp.Diff([]string{"PubMed:101", "PubMed:102"}, got); diff != "" {
		t.Errorf("documents (-want +got):\n%s", diff)
	}
	must(t, exitUsage, "run", "-", "--project", "corpus", "--sourceid-from-name", "--data", data)
}
