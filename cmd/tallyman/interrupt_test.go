package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/sample"
)

// interrupted interrupts the program and wants to be told, with the code for it.
func (b *background) interrupted(patterns ...string) []string {
	b.t.Helper()
	if code := b.stop(); code != exitInterrupted {
		b.t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	var match []string
	for _, pattern := range patterns {
		if match = regexp.MustCompile(pattern).FindStringSubmatch(b.stderr.String()); match == nil {
			b.t.Fatalf("not said: %s, in:\n%s", pattern, b.stderr.String())
		}
	}
	return match
}

// TestSubmitIsInterrupted interrupts those who wait for a job: it goes on at the server.
func TestSubmitIsInterrupted(t *testing.T) {
	t.Parallel()
	_, data, address := serve(t)
	path, _ := collection(t, sample.Config{Documents: 50})
	submitted := start(t, strings.NewReader(""), "submit", path, "--server", address, "--watch")
	submitted.await(&submitted.stderr, `job 1 collection.jsonl: running`) // no longer reading
	submitted.interrupted("job 1 goes on at the server, where 0 of [1-9][0-9]* items have ended so far; to follow it:\n"+
		"  tallyman watch 1 --server "+address+"\n", "to give it up:\n  tallyman cancel 1 --server "+address+"\n")

	watching := start(t, strings.NewReader(""), "watch", "1", "--server", address)
	watching.await(&watching.stderr, `job 1 collection.jsonl: `)
	watching.interrupted("job 1 goes on; to follow it again:\n  tallyman watch 1 --server " + address + "\n")

	must(t, exitOK, "work", "--data", data, "--exit-when-idle")
	must(t, exitOK, "watch", "1", "--server", address)
}

// TestSubmitOfStandardInputIsInterrupted interrupts an upload that cannot be read again, and pipes it in again.
func TestSubmitOfStandardInputIsInterrupted(t *testing.T) {
	t.Parallel()
	_, data, address := serve(t)
	path, made := collection(t, sample.Config{Documents: 600})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, watch := range []bool{true, false} {
		source, feed := io.Pipe()
		args := []string{"submit", "-", "--project", "piped-in", "--server", address, "--keep-bytes", "100000000"}
		if watch {
			args = append(args, "--watch")
		}
		submitted := start(t, source, args...)
		if _, err := feed.Write(content[:len(content)/2]); err != nil {
			t.Fatal(err)
		}
		if watch {
			submitted.await(&submitted.stderr, `job 1 stdin: reading, .* of [1-9][0-9,]* items`)
		} else {
			started := start(t, strings.NewReader(""), "watch", "2", "--server", address)
			started.await(&started.stderr, `job 2 stdin: reading, .* of [1-9][0-9,]* items`)
			started.stop()
		}
		match := submitted.interrupted("with the same bytes from their start on standard input",
			`tallyman (submit - --project piped-in .*--resume .*)\n`)
		_ = feed.Close()
		again := strings.Fields(match[1])
		// The job goes on to its end only where somebody works.
		if !watch {
			if r := tallymanWith(t.Context(), string(content[1:]), again...); r.code != exitOther ||
				!strings.Contains(r.stderr, "not the file") {
				t.Errorf("resumed with another input: exit code %d\n%s", r.code, r.stderr)
			}
		}
		working := start(t, strings.NewReader(""), "work", "--data", data)
		if r := tallymanWith(t.Context(), string(content), again...); r.code != exitOK {
			t.Errorf("%v: exit code %d\n%s%s", again, r.code, r.stdout, r.stderr)
		}
		working.stop()
	}
	must(t, exitOK, "work", "--data", data, "--exit-when-idle")
	for _, job := range objects(t, must(t, exitOK, "jobs", "--server", address, "-o", "json").stdout) {
		if by, total := outcomes(t, job); by["STORED"] != made.Items || total != made.Items {
			t.Errorf("job %v: outcomes %v of %d, want %d stored", job["job_id"], by, total, made.Items)
		}
	}
}
