//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// script writes a command, and returns the command line that runs it.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "command.sh")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "sh " + path
}

// numbered writes a file of items, one of which is poison.
func numbered(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "items.jsonl")
	if err := os.WriteFile(path, []byte("1\n2\n\"poison\"\n4\n\"bad\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const doubling = `while read -r line; do
  echo "saw $line" >&2
  case $line in
    *poison*) kill -SEGV $$ ;;
    *bad*) echo '{"error":"not a number"}' ;;
    *) echo "{\"result\":$((line * $TALLYMAN_PARAM_FACTOR))}" ;;
  esac
done
`

func TestRunExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := must(t, exitWithErrors, "run", numbered(t), "--data", dir, "--exec", script(t, doubling), "--param", "factor=2",
		"--batch-items", "1", "--workers", "2", "--exec-stderr")
	for _, want := range []string{"stored    3", "rejected  1", "crashed   1", "items.jsonl:3 (item 3", "SIGSEGV",
		"EXEC_ERROR", "tallyman results --job 1"} {
		if !strings.Contains(strings.Join(strings.Fields(r.stdout), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("there is no %q in:\n%s", want, r.stdout)
		}
	}
	if !strings.Contains(r.stderr, "] saw 4\n") {
		t.Errorf("what the command wrote to standard error is not in:\n%s", r.stderr)
	}
	got := must(t, exitOK, "results", "--data", dir, "--bare").stdout
	if diff := cmp.Diff("2\n4\n8\n", got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestRunExecBatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, exitOK, "run", numbered(t), "--data", dir, "--exec", "wc -l | tr -d ' '", "--exec-mode", "batch",
		"--exec-output", "json", "--kind", "count")
	if got := must(t, exitOK, "results", "--data", dir, "--bare").stdout; got != "5\n" {
		t.Errorf("results %q", got)
	}
	if got := must(t, exitOK, "jobs", "1", "--data", dir, "-o", "json").stdout; !strings.Contains(got, `"count"`) {
		t.Errorf("the kind is not in %s", got)
	}
}

// What a command finds in items is stored as annotations of their documents, validated as those of a collection.
func TestRunExecAnnotations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "documents.jsonl")
	items := `{"sourcedb":"PubMed","sourceid":"1","text":"Aspirin helps."}
{"sourcedb":"PubMed","sourceid":"2","text":"Tea helps."}
{"text":"It helps nobody."}
`
	if err := os.WriteFile(path, []byte(items), 0o600); err != nil {
		t.Fatal(err)
	}
	const command = `while read -r line; do case $line in
*Aspirin*) echo '{"result":{"annotations":{"denotations":[{"span":{"begin":0,"end":7},"obj":"Chemical"}]}}}';;
*) echo '{"result":{"annotations":{}}}';; esac; done`
	r := must(t, exitWithErrors, "run", path, "--data", dir, "--project", "chemistry", "--exec", command)
	for _, want := range []string{"stored     2", "rejected   1", "MISSING_SOURCEDB",
		"tallyman export --project chemistry"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("there is no %q in\n%s", want, r.stdout)
		}
	}
	want := `{"sourcedb":"PubMed","sourceid":"1","text":"Aspirin helps.","denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Chemical"}]}
{"sourcedb":"PubMed","sourceid":"2","text":"Tea helps."}
`
	if diff := cmp.Diff(want, must(t, exitOK, "export", "--data", dir, "--project", "chemistry").stdout); diff != "" {
		t.Errorf("export (-want +got):\n%s", diff)
	}
	if got := must(t, exitOK, "results", "--data", dir, "--job", "1").stdout; got != "" {
		t.Errorf("results besides: %s", got)
	}
	r = must(t, exitWithErrors, "run", path, "--data", dir, "--exec", command)
	if want := "the result is annotations, and the job has no project to store them for (--project)"; !strings.Contains(r.stdout, want) {
		t.Errorf("there is no %q in\n%s", want, r.stdout)
	}
}

// A worker beside a server handles jobs of its kind.
func TestWorkExec(t *testing.T) {
	t.Parallel()
	_, dir, _ := serve(t)
	must(t, exitOK, "submit", numbered(t), "--data", dir, "--kind", "echo")
	must(t, exitOK, "work", "--data", dir, "--kind", "echo", "--exec", "while read -r line; do echo '{}'; done", "--exit-when-idle")
	if got := must(t, exitOK, "watch", "1", "--data", dir).stdout; !strings.Contains(got, "succeeded") {
		t.Error(got)
	}
}

// So do those of the server itself, when it has any.
func TestServeExec(t *testing.T) {
	t.Parallel()
	_, dir, _ := serve(t, "--workers", "2", "--kind", "echo", "--exec", "while read -r line; do echo '{}'; done")
	must(t, exitOK, "submit", numbered(t), "--data", dir, "--kind", "echo", "--watch")
}

func TestExecUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"work", "--kind", "ner"}, `--kind "ner" needs --exec`},
		{[]string{"work", "--exec-ready", "--exec-mode", "stream"}, "--exec-mode, --exec-ready without --exec"},
		{[]string{"work", "--exec", " "}, "--exec: no command"},
		{[]string{"work", "--exec", "cat", "--kind", "annotations"}, "--kind annotations has its own handler"},
		{[]string{"work", "--exec", "cat", "--exec-mode", "both"}, `--exec: mode "both": choose stream or batch`},
		{[]string{"work", "--exec", "cat", "--exec-mode", "batch", "--exec-item-timeout", "1s"}, "exec-item-timeout is for mode stream"},
		{[]string{"work", "--exec", "cat", "--exec-output", "text"}, "output is kept in mode batch only"},
		{[]string{"serve", "--exec", "cat"}, "how many are there to be (--workers)?"},
		{[]string{"serve", "--workers", "1", "--kind", "ner"}, `--kind "ner" needs --exec`},
		{[]string{"work", "--isolate-max-memory-bytes", "1"}, "--isolate-max-memory-bytes without --isolate"},
		{[]string{"run", "x.jsonl", "--kind", "ner"}, `--kind "ner" needs --exec`},
	} {
		r := must(t, exitUsage, append(test.args, "--data", t.TempDir())...)
		if !strings.Contains(r.stderr, test.want) {
			t.Errorf("%q says\n%s, want %s", test.args, r.stderr, test.want)
		}
	}
}

// A command that is not there is found out before anything is done.
func TestExecWithoutProgram(t *testing.T) {
	t.Parallel()
	r := must(t, exitOther, "run", numbered(t), "--data", t.TempDir(), "--exec", "no-such-program --quiet")
	if !strings.Contains(r.stderr, "there is no program no-such-program here") {
		t.Errorf("it says\n%s", r.stderr)
	}
}

// What a command finds in documents that nobody knows is about the texts that their source gives.
func TestExecWithSource(t *testing.T) {
	t.Parallel()
	url := sourceOf(t, "", map[string]string{"1": "Many words."})
	dir := t.TempDir()
	command := script(t, `while read -r line; do
  echo '{"result":{"annotations":{"denotations":[{"span":{"begin":0,"end":5},"obj":"X"}]}}}'
done
`)
	r := must(t, exitWithErrors, "run", sourcedFile(t), "--data", dir, "--project", "my-corpus", "--exec", command, "--source", "PubMed="+url)
	if !strings.Contains(r.stdout, "document missing  1") {
		t.Errorf("nothing is missing in:\n%s", r.stdout)
	}
	var got []any
	for _, o := range objects(t, must(t, exitOK, "export", "--data", dir, "--project", "my-corpus").stdout) {
		got = append(got, o["text"])
	}
	if diff := cmp.Diff([]any{"words", "Many words."}, got); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}
