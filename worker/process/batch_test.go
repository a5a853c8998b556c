//go:build unix

package process_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/process"
)

func TestBatchMode(t *testing.T) {
	for name, test := range map[string]struct {
		config process.Config
		value  string        // of the batch; of a batch that is stored
		want   string        // in the error
		crash  *worker.Crash // without memory and fingerprint
	}{
		"stored":        {config: process.Config{Command: "cat"}},
		"nothing read":  {config: process.Config{Command: "true"}},
		"the last only": {config: process.Config{Command: `while read -r line; do last=$line; done; [ "$last" = 3 ]`}},
		"a text": {config: process.Config{Command: `echo "<sum>"; wc -l | tr -d ' '`, Output: process.Text},
			value: `"<sum>\n3\n"`},
		"no text":          {config: process.Config{Command: "cat >/dev/null", Output: process.Text}, value: `""`},
		"JSON":             {config: process.Config{Command: `echo "[$(wc -l)]"`, Output: process.JSON}, value: `[3]`},
		"no JSON":          {config: process.Config{Command: "cat >/dev/null", Output: process.JSON}},
		"JSON Lines":       {config: process.Config{Command: "cat", Output: process.JSON}, want: "is not one JSON value"},
		"not UTF-8":        {config: process.Config{Command: `printf '\377'`, Output: process.Text}, want: "is not valid UTF-8"},
		"too much":         {config: process.Config{Command: "cat", Output: process.Text, MaxOutput: 5}, want: "more than 5 bytes to standard output (exec-max-output-bytes)"},
		"too much for all": {config: process.Config{Command: "head -c 100M /dev/zero", Output: process.Text}, want: "more than 1048576 bytes"},
		"too much as JSON": {config: process.Config{Command: "head -c 500000 /dev/zero", Output: process.Text}, want: "takes 3000003 bytes as a JSON string"},
		"an exit code": {config: process.Config{Command: "echo a problem >&2; exit 3"},
			want: "the command exited with code 3:\na problem"},
		"a passing problem": {config: process.Config{Command: "exit 75"}, want: "exited with code 75, which means a passing problem"},
		"no such program":   {config: process.Config{Command: "/no/such/program"}, want: "exited with code 127:\n/bin/sh"},
		"a signal": {config: process.Config{Command: "cat; echo argh >&2; kill -SEGV $$"},
			want:  "the command died: the process was killed by SIGSEGV",
			crash: &worker.Crash{Suspect: -1, Signal: "SIGSEGV", Stderr: "argh\n"}},
		"too slow": {config: process.Config{Command: "sleep 100", BatchTimeout: 200 * time.Millisecond},
			want:  "the command took longer than 200ms for the batch (exec-batch-timeout)",
			crash: &worker.Crash{Suspect: -1, Signal: "SIGKILL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.Mode = process.Batch
			h := open(t, test.config)
			if !h.AllAtOnce() {
				t.Error("not all at once")
			}
			b := items(`0`, `1`, `2`, `3`)
			b.Done = 1
			results, err := attempt(t, h, b)
			if test.want == "" {
				want := stored(3)
				if test.value != "" {
					want[0].Value = []byte(test.value)
				}
				if diff := cmp.Diff(want, results); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || len(results) > 0 {
				t.Errorf("%d results, error %v, want %s", len(results), err, test.want)
			}
			crash, _ := errors.AsType[*worker.Crash](err)
			if crash != nil {
				crash.Fingerprint, crash.PeakMemory = "", 0
			}
			if diff := cmp.Diff(test.crash, crash); diff != "" {
				t.Errorf("crash (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	for name, config := range map[string]process.Config{
		"nothing":                  {},
		"a blank command":          {Command: " \n"},
		"a command with a zero":    {Command: "a\x00b"},
		"another mode":             {Command: "cat", Mode: "both"},
		"ready in mode batch":      {Command: "cat", Mode: process.Batch, Ready: true},
		"item time in mode batch":  {Command: "cat", Mode: process.Batch, ItemTimeout: 1},
		"start time in mode batch": {Command: "cat", Mode: process.Batch, StartTimeout: 1},
		"answers in mode batch":    {Command: "cat", Mode: process.Batch, MaxAnswer: 1},
		"output in mode stream":    {Command: "cat", Output: process.Text},
		"another output":           {Command: "cat", Mode: process.Batch, Output: "xml"},
		"a bound on no output":     {Command: "cat", Mode: process.Batch, MaxOutput: 1},
		"too large an output":      {Command: "cat", Mode: process.Batch, Output: process.Text, MaxOutput: worker.MaxValue + 1},
		"negative stop":            {Command: "cat", StopTimeout: -1},
		"negative memory":          {Command: "cat", MaxMemory: -1},
		"negative answer":          {Command: "cat", MaxAnswer: -1},
		"negative output":          {Command: "cat", Mode: process.Batch, Output: process.Text, MaxOutput: -1},
	} {
		if _, err := process.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
