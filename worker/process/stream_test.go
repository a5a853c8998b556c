//go:build unix

package process_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// what is a command that answers each item with the results of a shell's word.
func what(word string) string {
	return `while read -r line; do printf '{"result":"%s"}\n' "` + word + `"; done`
}

// said returns the results as text.
func said(results []worker.Result) string {
	var all []string
	for _, r := range results {
		all = append(all, strings.Trim(string(r.Value), `"`))
	}
	return strings.Join(all, " ")
}

// A process is kept for batches that are alike, and another one is started for others.
func TestProcessIsKept(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: "n=0; " + `while read -r line; do n=$((n+1)); printf '{"result":"%s"}\n' "$TALLYMAN_PARAM_MODEL$n"; done`})
	var got []string
	for i, model := range []string{"a", "a", "b", "a", "b"} {
		b := items(`1`, `2`)
		b.ID, b.JobID, b.Parameters = int64(i), int64(100+i), map[string]string{"model": model}
		results, err := attempt(t, h, b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, said(results))
	}
	// One batch at a time, one process at a time.
	if diff := cmp.Diff([]string{"a1 a2", "a3 a4", "b1 b2", "a1 a2", "b1 b2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOneProcessForEachBatchInHand(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: what("$$")})
	pids := map[string]bool{}
	var mu sync.Mutex
	for range 3 { // rounds
		var batches sync.WaitGroup
		for range 4 {
			batches.Go(func() {
				results, err := worker.Try(context.Background(), h, items(`1`, `2`, `3`))
				mu.Lock()
				defer mu.Unlock()
				for _, r := range results {
					pids[string(r.Value)] = true
				}
				if err != nil || len(results) != 3 || string(results[0].Value) != string(results[2].Value) {
					t.Errorf("%v: %v", err, said(results))
				}
			})
		}
		batches.Wait()
	}
	if len(pids) > 4 {
		t.Errorf("%d processes for 4 batches at a time", len(pids))
	}
}

// A process that ends between items, or that has ended while it waited for a batch, is replaced, and no item suffers.
func TestProcessThatEndsBetweenItems(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"exit 0", "exit 1", "kill -SEGV $$"} {
		h := open(t, process.Config{Command: `read -r line; echo "{\"result\":$line}"; read -r line; echo "{\"result\":$line}"; ` + end})
		for range 3 {
			results, err := attempt(t, h, items(`1`, `2`, `3`, `4`, `5`))
			if got := said(results); got != "1 2 3 4 5" || err != nil {
				t.Errorf("%s: %s, %v", end, got, err)
			}
		}
	}
}

// A crash costs the batch, not the handler; its other items are handled in the next attempt, from where it was.
func TestGoesOnAfterCrash(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: loop(on("poison", "kill -SEGV $$"))})
	b := items(`1`, `"poison"`, `3`)
	results, err := attempt(t, h, b)
	if _, ok := errors.AsType[*worker.Crash](err); !ok || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	b.Done = 2
	results, err = attempt(t, h, b)
	if diff := cmp.Diff(stored(1), results); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	h := open(t, process.Config{Command: "sleep 3; echo '{\"ready\": true}'; " + loop(""), Ready: true,
		ItemTimeout: 2 * time.Second, StartTimeout: bound})
	for range 2 {
		results, err := attempt(t, h, items(`1`, `2`))
		if diff := cmp.Diff(stored(2), results); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("TALLYMAN_STORE", "postgres://user:secret@host/db")
	t.Setenv("TALLYMAN_PROJECT", "wrong")
	t.Setenv("OTHER", "inherited")
	b := items(`1`)
	b.Parameters = map[string]string{"model": "large one", "top-k": "3", "a.b": "1", "a b": "2", "größe": "5"}
	const common = "A_B=unset TALLYMAN_KIND=ner TALLYMAN_MODE=replace " +
		`TALLYMAN_PARAMETERS={"a b":"2","a.b":"1","größe":"5","model":"large one","top-k":"3"} TALLYMAN_PARAM_GR__E=5 ` +
		"TALLYMAN_PARAM_MODEL=large one TALLYMAN_PARAM_TOP_K=3 TALLYMAN_PROJECT=trial"
	script := `env | LC_ALL=C sort | grep -e ^TALLYMAN_ -e ^OTHER -e ^MORE | tr '\n' ' ' | sed 's/ $//'`
	for mode, want := range map[process.Mode]string{
		process.Stream: "MORE=given OTHER=inherited " + common[len("A_B=unset "):],
		process.Batch: "MORE=given OTHER=inherited TALLYMAN_ATTEMPT=2 TALLYMAN_BATCH_ID=7 TALLYMAN_JOB_ID=3 " +
			common[len("A_B=unset "):],
	} {
		var stderr buffer
		config := process.Config{Command: script + " >&2; read -r line; exit 0", Mode: mode, Stderr: &stderr, Env: []string{"MORE=given"}}
		_, err := try(t, config, b)
		if mode == process.Batch && err != nil {
			t.Error(err)
		}
		_, got, _ := strings.Cut(strings.TrimSuffix(stderr.String(), "\n"), "] ")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
	}
}

func TestItemsOnOneLine(t *testing.T) {
	t.Parallel()
	b := items("{\n \"a\": [1,\r\n 2],\n \"b\": \"x\\ny\"\n}", ` {"a":  1} `, `"日本"`)
	b.Items[2].Document = "PMC:1"
	results, err := try(t, process.Config{Command: `while read -r line; do printf '{"result":%s}\n' "$line"; done`}, b)
	if got, want := said(results), `{"a":[1,2],"b":"x\ny"} {"a":  1} 日本`; got != want || err != nil {
		t.Errorf("got %s, want %s, %v", got, want, err)
	}
	results, err = try(t, process.Config{Command: `while read -r line; do printf '{"result":%s}\n' "$line"; done`, Envelope: true}, b)
	want := `{"item":{"a":[1,2],"b":"x\ny"},"number":1,"file":"up.jsonl","line":1,"offset":0,"job_id":3,"batch_id":7,"attempt":2} ` +
		`{"item":{"a":1},"number":2,"file":"up.jsonl","line":2,"offset":0,"job_id":3,"batch_id":7,"attempt":2} ` +
		`{"item":"日本","number":3,"file":"up.jsonl","line":3,"offset":0,"document":"PMC:1","job_id":3,"batch_id":7,"attempt":2}`
	if got := said(results); got != want || err != nil {
		t.Errorf("got %s, want %s, %v", got, want, err)
	}
}

func TestStderr(t *testing.T) {
	t.Parallel()
	var stderr buffer
	h, err := process.New(process.Config{Command: loop(`echo "saw $line" >&2; printf half >&2`), Stderr: &stderr})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attempt(t, h, items(`1`, `2`)); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil { // which waits for the rest
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "] saw 1") || !strings.HasSuffix(lines[1], "] halfsaw 2") ||
		!strings.HasPrefix(lines[2], "[") || !strings.HasSuffix(lines[2], "] half") {
		t.Errorf("%q", lines)
	}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"cat":                  "",
		"exec cat":             "",
		"LC_ALL=C cat":         "",
		"$CAT":                 "",
		"no-such-program -x 1": `the command "no-such-program -x 1" cannot be run: there is no program no-such-program here`,
		"./no/such":            `the command "./no/such" cannot be run: there is no program ./no/such here`,
	} {
		err := open(t, process.Config{Command: command}).Prepare(t.Context(), "")
		if fmt.Sprint(err) != want && (want != "" || err != nil) {
			t.Errorf("%s: %v, want %s", command, err, want)
		}
	}
}
