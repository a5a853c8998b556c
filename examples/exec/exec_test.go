//go:build unix

// Package exec_test runs the commands of this folder as a worker would.
package exec_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// try has a command handle three items.
func try(t *testing.T, config process.Config) []worker.Result {
	t.Helper()
	h, err := process.New(config)
	if err != nil {
		t.Fatal(err)
	}
	b := worker.Batch{ID: 7, Attempt: 2, JobID: 3, Kind: "exec", Mode: "replace"}
	for i, data := range []string{`{"text":"Aspirin helps."}`, `{"title":"none"}`, `{"text":"日本"}`} {
		b.Items = append(b.Items, payload.Item{Number: int64(i + 1), File: "up.jsonl", Line: int64(i + 1), Data: []byte(data)})
	}
	results, err := worker.Try(t.Context(), h, b)
	if err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	return results
}

func TestWords(t *testing.T) {
	for command, space := range map[string]string{"python3 words.py": " ", "sh words.sh": ""} {
		t.Run(command, func(t *testing.T) {
			if program, _, _ := strings.Cut(command, " "); !found(program) {
				t.Skipf("there is no %s on this host to run this example with", program)
			}
			var got []string
			for _, r := range try(t, process.Config{Command: command}) {
				for _, f := range r.Findings {
					got = append(got, fmt.Sprintf("%s at %s: %s", f.Code, f.Path, f.Message))
				}
				got = append(got, r.Outcome.String()+" "+string(r.Value))
			}
			want := []string{`stored {"words":` + space + `2}`, "NO_TEXT at text: There is no text.", "rejected ",
				`stored {"words":` + space + `1}`}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestChemicals(t *testing.T) {
	if !found("python3") {
		t.Skip("SKIPPED: no python3 on the PATH, so that the example is not run")
	}
	var got []string
	for _, r := range try(t, process.Config{Command: "python3 chemicals.py"}) {
		got = append(got, r.Outcome.String()+" "+string(r.Value))
	}
	want := []string{
		`stored {"annotations": {"denotations": [{"span": {"begin": 0, "end": 7}, "obj": "Chemical"}]}}`,
		`stored {"annotations": {"denotations": []}}`,
		`stored {"annotations": {"denotations": []}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func found(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func TestBatch(t *testing.T) {
	dir := t.TempDir()
	results := try(t, process.Config{Command: "sh batch.sh", Mode: process.Batch, Output: process.Text, Env: []string{"OUT=" + dir}})
	file := filepath.Join(dir, "3-7.jsonl")
	if len(results) != 3 || string(results[0].Value) != `"`+file+`"` {
		t.Errorf("%+v", results)
	}
	data, err := os.ReadFile(file)
	if diff := cmp.Diff("{\"text\":\"Aspirin helps.\"}\n{\"title\":\"none\"}\n{\"text\":\"日本\"}\n", string(data)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
