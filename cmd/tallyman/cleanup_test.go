package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	"github.com/tallyman-dev/tallyman/sample"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "7d": 7 * day, "1w": 7 * day, "1w2d12h30m": 9*day + 12*time.Hour + 30*time.Minute,
		"1.5d": 36 * time.Hour, "168h": 7 * day, "36500d": 36_500 * day,
	} {
		var s span
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%q: %v, %v; want %v", text, time.Duration(s), err, want)
		}
		var again span
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%q is written as %q, which is read as %v, %v", text, s.String(), time.Duration(again), err)
		}
	}
	for _, text := range []string{"", "7", "d", "-1h", "-7d", "7d-1h", "d7", "36501d", "1e9w", "99999999999999999999d", "12h7d", "2562047h", "7 d"} {
		var s span
		if err := s.Set(text); err == nil {
			t.Errorf("%q is read as %v", text, time.Duration(s))
		}
	}
}

// twoJobs runs two files, of which the second has a bad item.
func twoJobs(t *testing.T) (data string) {
	t.Helper()
	good, _ := collection(t, sample.Config{Documents: 5})
	bad, _ := collection(t, sample.Config{Documents: 5, Bad: 1})
	data = filepath.Join(t.TempDir(), "data")
	must(t, exitOK, "run", good, "--data", data)
	must(t, exitWithErrors, "run", bad, "--data", data)
	return data
}

// column returns one column of a list in TSV, without its header.
func column(t *testing.T, text string, n int) []string {
	t.Helper()
	var values []string
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if i > 0 {
			values = append(values, strings.Split(line, "\t")[n])
		}
	}
	return values
}

func TestCleanup(t *testing.T) {
	t.Parallel()
	data := twoJobs(t)
	for _, args := range [][]string{
		{"cleanup", "--data", data},
		{"cleanup", "--older-than", "7d", "--data", data}, // nobody can be asked
		{"cleanup", "--older-than", "soon", "--data", data},
		{"cleanup", "--older-than", "7d", "--state", "running", "--yes", "--data", data},
		{"serve", "--retention", "-1h", "--data", data},
	} {
		must(t, exitUsage, args...)
	}
	if r := must(t, exitOK, "cleanup", "--older-than", "7d", "--yes", "--data", data); r.stdout != "" || r.stderr != "there are none\n" {
		t.Errorf("jobs of 7 days ago: %q, %q", r.stdout, r.stderr)
	}
	dry := must(t, exitOK, "cleanup", "--older-than", "0", "--dry-run", "-o", "tsv", "--data", data).stdout
	if diff := cmp.Diff([]string{"succeeded", "completed_with_errors"}, column(t, dry, 1)); diff != "" {
		t.Errorf("a dry run (-want +got):\n%s\n%s", diff, dry)
	}
	r := must(t, exitOK, "cleanup", "--older-than", "0", "--state", "succeeded", "--yes", "-o", "json", "--data", data)
	if jobs := objects(t, r.stdout); len(jobs) != 1 || jobs[0]["job_id"] != "1" || r.stderr != "1 job deleted\n" {
		t.Errorf("deleted: %s%s", r.stdout, r.stderr)
	}
	if left := must(t, exitOK, "jobs", "-o", "tsv", "--data", data).stdout; !cmp.Equal([]string{"2"}, column(t, left, 0)) {
		t.Errorf("left:\n%s", left)
	}
	// What the job stored stays.
	if out := must(t, exitOK, "export", "--project", "collection", "--data", data).stdout; lineCount(out) != 5 {
		t.Errorf("%d documents are left", lineCount(out))
	}
}

// Without a server, the rows are gone when the command is.
func TestDeleteWithoutServerLeavesNoRows(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"jobs", "delete", "1", "2", "--yes"},
		{"cleanup", "--older-than", "0", "--yes"},
	} {
		data := twoJobs(t)
		if before := rows(t, data); before["batch_payloads"] == 0 || before["findings"] == 0 {
			t.Fatalf("rows before: %v", before)
		}
		must(t, exitOK, append(args, "--data", data)...)
		for table, n := range rows(t, data) {
			if n != 0 {
				t.Errorf("%v: %d rows are left in %s", args, n, table)
			}
		}
	}
}

func TestDeleteExplainsWhatIsOpen(t *testing.T) {
	t.Parallel()
	path, _ := collection(t, sample.Config{Documents: 5})
	_, data, _ := serve(t, "--retention", "0", "--retention-with-errors", "2w") // without workers
	must(t, exitOK, "submit", path, "--data", data)
	must(t, exitOK, "submit", path, "--data", data)
	must(t, exitOK, "cancel", "2", "--yes", "--data", data)
	must(t, exitJobCancelled, "watch", "2", "--data", data)
	r := must(t, exitOther, "jobs", "delete", "1", "2", "99", "--yes", "--data", data)
	for _, part := range []string{"job 2 deleted", "has not ended; cancel it first: tallyman cancel 1 --data " + data, "there is no job 99"} {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("no %q in %s", part, r.stderr)
		}
	}
	if left := must(t, exitOK, "jobs", "-o", "tsv", "--data", data).stdout; !cmp.Equal([]string{"1"}, column(t, left, 0)) {
		t.Errorf("left:\n%s", left)
	}
}

// rows counts the rows of the tables of a data folder that belong to jobs.
func rows(t *testing.T, data string) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, folder.Database)) // the coordinator's driver is linked in
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	counts := make(map[string]int)
	for _, table := range []string{
		"jobs", "uploads", "batches", "batch_payloads", "batch_documents", "attempts", "findings", "rejected_items",
		"item_results", "job_deltas", "job_minutes", "slowest_batches",
	} {
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	return counts
}
