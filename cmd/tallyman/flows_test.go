package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/sample"
)

// collection writes a sample into a file and returns its path.
func collection(t *testing.T, config sample.Config) (path string, made sample.Summary) {
	t.Helper()
	var b bytes.Buffer
	made, err := sample.Generate(&b, config)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "collection.jsonl")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, made
}

// outcomes returns the items of a job's JSON by outcome, and their total.
func outcomes(t *testing.T, job map[string]any) (by map[string]int64, total int64) {
	t.Helper()
	progress := job["progress"].(map[string]any)
	by = make(map[string]int64)
	for _, entry := range progress["items_by_outcome"].([]any) {
		count := entry.(map[string]any)
		by[strings.TrimPrefix(count["outcome"].(string), "OUTCOME_")] = integer(t, count["items"])
	}
	return by, integer(t, progress["items_total"])
}

// integer reads a 64-bit number, which is a string in JSON.
func integer(t *testing.T, v any) int64 {
	t.Helper()
	n, err := strconv.ParseInt(v.(string), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func lineCount(s string) int64 { return int64(strings.Count(s, "\n")) }

func TestRun(t *testing.T) {
	t.Parallel()
	path, made := collection(t, sample.Config{Documents: 200, Bad: 17})
	data := filepath.Join(t.TempDir(), "data")
	r := must(t, exitWithErrors, "run", path, "--data", data)
	for _, part := range []string{
		"job 1 completed with errors", fmt.Sprintf("rejected   %d\n", made.Bad), "next:",
		"tallyman findings --job 1 --data " + data,
	} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("no %q in the summary:\n%s", part, r.stdout)
		}
	}
	if !strings.Contains(r.stderr, "project collection, from the name of") {
		t.Errorf("the project is not announced: %s", r.stderr)
	}
	job := objects(t, must(t, exitOK, "jobs", "-o", "json", "--data", data).stdout)[0]
	by, total := outcomes(t, job)
	want := map[string]int64{"STORED": made.Items - made.Bad, "REJECTED": made.Bad}
	if diff := cmp.Diff(want, by); diff != "" || total != made.Items {
		t.Errorf("%d items, want %d; outcomes (-want +got):\n%s", total, made.Items, diff)
	}
	rejected := make(map[any]bool)
	for _, finding := range objects(t, must(t, exitOK, "findings", "-o", "json", "--data", data).stdout) {
		rejected[finding["item"]] = true
	}
	if int64(len(rejected)) != made.Bad {
		t.Errorf("findings about %d items, want %d", len(rejected), made.Bad)
	}
	checked := must(t, exitWithErrors, "check", path, "-o", "tsv")
	if found := must(t, exitOK, "findings", "--job", "1", "-o", "tsv", "--data", data); found.stdout != checked.stdout {
		t.Errorf("check and run differ (-check +run):\n%s", cmp.Diff(checked.stdout, found.stdout))
	}
	first := must(t, exitOK, "export", "--project", "collection", "--data", data).stdout
	if n := lineCount(first); n != made.Documents {
		t.Errorf("%d documents exported, want %d", n, made.Documents)
	}
	must(t, exitWithErrors, "run", path, "--data", data)
	if again := must(t, exitOK, "export", "--project", "collection", "--data", data).stdout; again != first {
		t.Error("the same file again changes what is stored")
	}
	// What was exported goes in as it is and comes out the same.
	exported := filepath.Join(t.TempDir(), "exported.jsonl")
	must(t, exitOK, "export", "--project", "collection", "--data", data, "--to", exported)
	must(t, exitOther, "export", "--project", "collection", "--data", data, "--to", exported)
	must(t, exitOK, "run", exported, "--project", "second", "--data", data)
	if second := must(t, exitOK, "export", "--project", "second", "--data", data).stdout; second != first {
		t.Error("an export that was stored is exported differently")
	}
}

func TestTruncatedFileComesFirst(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 200, Bad: 20})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, compressed.Bytes()[:compressed.Len()*3/4], 0o600); err != nil {
		t.Fatal(err)
	}
	r := tallyman(t, "run", path, "--data", filepath.Join(t.TempDir(), "data"))
	about := strings.Index(r.stdout, "error TRUNCATED: nothing was read from here on")
	if items := strings.Index(r.stdout, " × error"); about < 0 || items < about {
		t.Errorf("the file is at %d, items are at %d, in:\n%s", about, items, r.stdout)
	}
}

// TestRunIsInterrupted interrupts an upload that waits for its source, and goes on with it.
func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	path, made := collection(t, sample.Config{Documents: 300})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	source, feed := io.Pipe()
	defer feed.Close()
	b := start(t, source, "run", "-", "--project", "collection", "--data", data)
	if _, err := feed.Write(content[:len(content)/2]); err != nil {
		t.Fatal(err)
	}
	b.await(&b.stderr, `job 1 stdin: reading, .* of [1-9][0-9,]* items`)
	if code := b.stop(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d\n%s", code, exitInterrupted, b.stderr.String())
	}
	for _, where := range []string{data, filepath.Join(t.TempDir(), "other")} {
		r := must(t, exitOther, "run", path, "--project", "collection", "--resume", "unknown", "--data", where)
		if !strings.Contains(r.stderr, "there is no upload unknown") {
			t.Errorf("an unknown upload is resumed in %s: %s", where, r.stderr)
		}
	}
	shown := must(t, exitOK, "jobs", "1", "--data", data).stdout
	if ok, err := regexp.MatchString(`tallyman run FILE --project collection --resume \S+ --data `, shown); err != nil || !ok {
		t.Errorf("the job does not say how to go on (%v):\n%s", err, shown)
	}
	match := regexp.MustCompile(`tallyman run - --project collection --resume (\S+) --data `).FindStringSubmatch(b.stderr.String())
	if match == nil {
		t.Fatalf("no way to go on is named in:\n%s", b.stderr.String())
	}
	r := tallymanWith(t.Context(), string(content), "run", "-", "--project", "collection", "--resume", match[1], "--data", data)
	if r.code != exitOK || !strings.Contains(r.stdout, "job 1 succeeded") {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if n := lineCount(must(t, exitOK, "export", "--project", "collection", "--data", data).stdout); n != made.Documents {
		t.Errorf("%d documents, want %d", n, made.Documents)
	}
}

func TestServeSubmitWork(t *testing.T) {
	t.Parallel()
	server, data, address := serve(t)
	path, made := collection(t, sample.Config{Documents: 100, Bad: 3})

	second := must(t, exitOther, "serve", "--data", data, "--listen", "127.0.0.1:0")
	if !strings.Contains(second.stderr, address) || !strings.Contains(second.stderr, strconv.Itoa(os.Getpid())) {
		t.Errorf("a second server is refused without pid and address: %s", second.stderr)
	}

	submitted := start(t, strings.NewReader(""), "submit", path, "--server", address, "--watch", "--label", "for=test")
	submitted.await(&submitted.stderr, "job 1 ")
	store := "sqlite:" + filepath.Join(data, "annotations.db")
	must(t, exitOK, "work", "--server", address, "--store", store, "--exit-when-idle", "--worker-id", "first", "--slots", "2")
	if code := submitted.wait(); code != exitWithErrors {
		t.Errorf("submit --watch ended with %d, want %d\n%s", code, exitWithErrors, submitted.stderr.String())
	}
	if text := submitted.stdout.String(); !strings.Contains(text, "tallyman export --project collection --store STORE\n") {
		t.Errorf("the export that is named next does not work:\n%s", text)
	}
	unknown := must(t, exitOther, "submit", path, "--server", address, "--resume", "unknown")
	if !strings.Contains(unknown.stderr, "there is no upload unknown") {
		t.Errorf("an unknown upload is resumed: %s", unknown.stderr)
	}
	for flag, value := range map[string]string{"project": "a b", "mode": "append", "priority": "1000", "batch-weight": "-1", "sourcedb": strings.Repeat("x", 300)} {
		r := must(t, exitUsage, "submit", path, "--server", address, "--"+flag, value)
		if !strings.Contains(r.stderr, "--"+flag+": must be ") || strings.Contains(r.stderr, "header") {
			t.Errorf("--%s: %s", flag, r.stderr)
		}
	}
	// The other way around: the worker is there first, and finds the server by the folder.
	working := start(t, strings.NewReader(""), "work", "--data", data, "--worker-id", "second")
	r := must(t, exitOK, "submit", path, "--data", data, "--project", "other", "-o", "json")
	id := fmt.Sprint(objects(t, r.stdout)[0]["job_id"])
	watched := must(t, exitWithErrors, "watch", id, "--data", data, "-o", "json")
	if by, _ := outcomes(t, objects(t, watched.stdout)[0]); by["STORED"] != made.Items-made.Bad {
		t.Errorf("outcomes %v", by)
	}
	if workers := must(t, exitOK, "workers", "second", "--data", data).stdout; !strings.Contains(workers, "second") {
		t.Errorf("workers:\n%s", workers)
	}
	if code := working.stop(); code != exitOK {
		t.Errorf("work ended with %d\n%s", code, working.stderr.String())
	}
	sessions := objects(t, must(t, exitOK, "workers", "--all", "--server", address, "-o", "json").stdout)
	if len(sessions) != 2 {
		t.Errorf("%d sessions, want 2: %v", len(sessions), sessions)
	}
	if code := server.stop(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, server.stderr.String())
	}
	// Without a server the folder is opened in process.
	if jobs := objects(t, must(t, exitOK, "jobs", "--data", data, "-o", "json").stdout); len(jobs) != 2 {
		t.Errorf("%d jobs, want 2", len(jobs))
	}
	one, other := must(t, exitOK, "export", "--project", "collection", "--data", data),
		must(t, exitOK, "export", "--project", "other", "--data", data)
	if one.stdout != other.stdout || lineCount(one.stdout) != made.Documents {
		t.Errorf("%d and %d documents, want the same %d", lineCount(one.stdout), lineCount(other.stdout), made.Documents)
	}
	must(t, exitUnreachable, "submit", path, "--data", data)
}

func TestLookingAround(t *testing.T) {
	t.Parallel()
	path, made := collection(t, sample.Config{Documents: 60})
	server, data, _ := serve(t, "--workers", "2", "--log-format", "json")
	must(t, exitOK, "submit", path, "--data", data, "--watch", "--batch-items", "10")

	batches := objects(t, must(t, exitOK, "batches", "--data", data, "-o", "json").stdout)
	if want := (made.Items + 9) / 10; int64(len(batches)) != want {
		t.Errorf("%d batches, want %d", len(batches), want)
	}
	document := batches[0]["documents"].([]any)[0].(string)
	found := objects(t, must(t, exitOK, "find", document, "--data", data, "-o", "json").stdout)
	if len(found) != 1 || found[0]["batch_id"] != batches[0]["batch_id"] {
		t.Errorf("find %s: %v, want batch %v", document, found, batches[0]["batch_id"])
	}
	if r := must(t, exitOK, "find", "PubMed:0", "--data", data); r.stdout != "" || !strings.Contains(r.stderr, "none") {
		t.Errorf("find of an unknown document: %q, %q", r.stdout, r.stderr)
	}
	for _, args := range [][]string{
		{"batches", fmt.Sprint(batches[0]["batch_id"])},
		{"batches", "--job", "1", "--slowest"},
		{"batches", "--state", "completed"},
		{"jobs", "1"},
		{"stats", "--job", "1"},
		{"findings"},
		{"findings", "1"},
		{"findings", "1", "--job", "1"},
	} {
		r := must(t, exitOK, append(args, "--data", data)...)
		if args[0] != "findings" && r.stdout == "" {
			t.Errorf("%v writes nothing", args)
		}
	}
	if r := must(t, exitOK, "stats", "--data", data); !strings.Contains(r.stdout, "100.0 %") {
		t.Errorf("stats:\n%s", r.stdout)
	}
	must(t, exitOther, "jobs", "99", "--data", data)
	if r := must(t, exitOK, "batches", "--limit", "1", "--data", data, "-o", "tsv"); lineCount(r.stdout) != 2 ||
		!strings.Contains(r.stderr, "--limit 0") {
		t.Errorf("limit 1: %q, %q", r.stdout, r.stderr)
	}
	if code := server.stop(); code != exitOK {
		t.Errorf("serve ended with %d", code)
	}
	for _, line := range objects(t, server.stderr.String()) {
		if line["level"] == "ERROR" {
			t.Errorf("logged: %v", line)
		}
	}
}

func TestCancelAndDelete(t *testing.T) {
	t.Parallel()
	path, made := collection(t, sample.Config{Documents: 20})
	_, data, _ := serve(t) // without workers
	must(t, exitOK, "submit", path, "--data", data)
	must(t, exitOther, "jobs", "delete", "1", "--yes", "--data", data)
	must(t, exitUsage, "cancel", "1", "--data", data)
	must(t, exitOK, "cancel", "1", "--yes", "--reason", "a test", "--data", data)
	r := must(t, exitJobCancelled, "watch", "1", "--data", data, "-o", "json")
	if by, _ := outcomes(t, objects(t, r.stdout)[0]); by["CANCELLED"] != made.Items {
		t.Errorf("outcomes %v, want %d cancelled", by, made.Items)
	}
	must(t, exitOK, "jobs", "delete", "1", "--yes", "--data", data)
	if r := must(t, exitOK, "jobs", "--data", data); r.stdout != "" {
		t.Errorf("a deleted job is listed:\n%s", r.stdout)
	}
	must(t, exitOther, "findings", "--data", data) // of no job
}

func TestWatchWithoutServer(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 20})
	server, data, _ := serve(t)
	must(t, exitOK, "submit", path, "--data", data)
	server.stop()
	if r := must(t, exitUnreachable, "watch", "1", "--data", data); !strings.Contains(r.stderr, "job 1 has not ended") {
		t.Errorf("watch of a job that stands still: %s", r.stderr)
	}
	if r := must(t, exitOK, "cancel", "1", "--yes", "--data", data); r.stdout != "job 1 is cancelled\n" {
		t.Errorf("cancel without a server: %q, %q", r.stdout, r.stderr)
	}
	must(t, exitJobCancelled, "watch", "1", "--data", data)
}

func TestSampleAndCheck(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.jsonl")
	must(t, exitOK, "sample", "--documents", "50", "--seed", "3", path)
	must(t, exitOther, "sample", "--documents", "50", path)
	must(t, exitOK, "sample", "--documents", "50", "--seed", "3", "--force", path)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := must(t, exitOK, "sample", "--documents", "50", "--seed", "3"); r.stdout != string(content) {
		t.Error("the same seed gives another collection on standard output")
	}
	must(t, exitOK, "check", path)
	if r := must(t, exitOK, "check", path, "--batches", "--batch-items", "5", "-o", "json"); lineCount(r.stdout) != (lineCount(string(content))+4)/5 {
		t.Errorf("batches:\n%s", r.stdout)
	}
	if r := tallymanWith(t.Context(), "{}\n", "check", "-"); r.code != exitWithErrors || !strings.Contains(r.stdout, "MISSING_SOURCEDB") {
		t.Errorf("check of standard input: %+v", r)
	}
}
