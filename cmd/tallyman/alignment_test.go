package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A text that differs is aligned, as far as it must be, in this process and in others.
func TestMinAlignment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, line string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	known := write("known.jsonl", `{"sourcedb":"D","sourceid":"1","text":"TNF-α binds to its receptor on cells."}`)
	near := write("near.jsonl", `{"sourcedb":"D","sourceid":"1","text":"TNF-alpha unexpectedly binds to its receptor.",
"denotations":[{"id":"T1","span":{"begin":0,"end":9},"obj":"P"},{"id":"T2","span":{"begin":10,"end":22},"obj":"M"}]}`)
	for _, flags := range [][]string{nil, {"--isolate"}} {
		if flags != nil && runtime.GOOS != "linux" {
			continue
		}
		data := filepath.Join(t.TempDir(), "data")
		must(t, exitOK, "run", known, "--data", data, "--project", "known")
		run := append([]string{"run", near, "--data", data}, flags...)
		strict := must(t, exitWithErrors, append(run, "--project", "strict", "--min-alignment", "90%")...)
		if !strings.Contains(strict.stdout, "TEXT_MISMATCH") {
			t.Errorf("flags %v: nothing is rejected:\n%s", flags, strict.stdout)
		}
		findings := must(t, exitOK, "findings", "--data", data).stdout
		if !strings.Contains(findings, "at least 90 % are needed") {
			t.Errorf("flags %v: it does not say what is needed:\n%s", flags, findings)
		}
		must(t, exitWithErrors, append(run, "--project", "lenient")...)
		findings = must(t, exitOK, "findings", "--data", data, "--severity", "error").stdout
		if !strings.Contains(findings, "SPAN_LOST") || !strings.Contains(findings, "denotations[1].span") {
			t.Errorf("flags %v: it does not say what is lost:\n%s", flags, findings)
		}
		exported := must(t, exitOK, "export", "--data", data, "--project", "lenient").stdout
		if want := `"denotations":[{"id":"T1","span":{"begin":0,"end":5},"obj":"P"}]`; !strings.Contains(exported, want) {
			t.Errorf("flags %v: no %s in %s", flags, want, exported)
		}
	}
	for _, share := range []string{"0", "101%", "some"} {
		if r := must(t, exitUsage, "run", near, "--data", filepath.Join(dir, "none"), "--min-alignment", share); !strings.Contains(r.stderr, "min-alignment") {
			t.Errorf("share %s: %s", share, r.stderr)
		}
	}
}
