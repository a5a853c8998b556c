package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sourceOf serves documents by id, to whoever has the key.
func sourceOf(t *testing.T, key string, texts map[string]string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ids []string
		if err := json.NewDecoder(r.Body).Decode(&ids); err != nil || r.Header.Get("X-Key") != key {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		answer := struct {
			Docs []map[string]string `json:"docs"`
		}{Docs: []map[string]string{}}
		for _, id := range ids {
			if text, ok := texts[id]; ok {
				answer.Docs = append(answer.Docs, map[string]string{"sourceid": id, "text": text})
			}
		}
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // the other end complains
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// sourcedFile is a file of items of three documents of two databases.
func sourcedFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "items.jsonl")
	var lines strings.Builder
	for _, key := range []string{"PubMed 1", "PMC 2", "PubMed 3"} {
		db, id, _ := strings.Cut(key, " ")
		fmt.Fprintf(&lines, `{"sourcedb":%q,"sourceid":%q,"text":"words","denotations":[{"span":{"begin":0,"end":5},"obj":"X"}]}`+"\n", db, id)
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunWithSources(t *testing.T) {
	t.Parallel()
	pubMed := sourceOf(t, "k: 1", map[string]string{"1": "Many words."})
	pmc := sourceOf(t, "", map[string]string{"2": "No words."})
	file := sourcedFile(t)
	config := filepath.Join(t.TempDir(), "tallyman.conf")
	text := "source = pubmed=" + pubMed + " PMC=" + pmc + "\nsource-header = PubMed=X-Key: k: 1\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"flags": {"--source", "PubMed=" + pubMed, "--source", "pmc=" + pmc, "--source-header", "PubMed=x-key: k: 1"},
		"file":  {"--config", config, "--source-rate", "-1", "--source-batch", "1", "--source-max-bytes", "1MiB"},
	} {
		dir := t.TempDir()
		r := must(t, exitWithErrors, append([]string{"run", file, "--data", dir, "--project", "my-corpus"}, flags...)...)
		if want := "document missing  1"; !strings.Contains(r.stdout, want) {
			t.Errorf("%s: no %q in:\n%s", name, want, r.stdout)
		}
		var got []string
		for _, o := range objects(t, must(t, exitOK, "export", "--data", dir, "--project", "my-corpus").stdout) {
			got = append(got, fmt.Sprint(o["sourcedb"], " ", o["sourceid"], " ", o["text"]))
		}
		if d := cmp.Diff([]string{"PMC 2 No words.", "PubMed 1 Many words."}, got); d != "" {
			t.Errorf("%s: documents (-want +got)\n%s", name, d)
		}
		findings := must(t, exitOK, "findings", "--data", dir, "-o", "tsv").stdout
		if !strings.Contains(findings, "DOCUMENT_MISSING") || !strings.Contains(findings, "PubMed:3") {
			t.Errorf("%s: findings:\n%s", name, findings)
		}
		items := must(t, exitOK, "items", "--data", dir, "--outcome", "document_missing").stdout
		if lines := objects(t, items); len(lines) != 1 || lines[0]["sourceid"] != "3" {
			t.Errorf("%s: missing items:\n%s", name, items)
		}
	}
}

func TestSourceFlags(t *testing.T) {
	t.Parallel()
	file := sourcedFile(t)
	const good = "PubMed=https://me:secret@host/?key=secret"
	for _, flags := range [][]string{
		{"--source", "PubMed"},
		{"--source", "PubMed="},
		{"--source", "https://host/?secret=1"},
		{"--source", "PubMed=ftp://me:secret@host/"},
		{"--source", "PubMed=https://me:secret@host:port/"},
		{"--source", good, "--source", "pubmed=https://me:secret@host/"},
		{"--source-rate", "1"},
		{"--source", good, "--source-batch", "1001"},
		{"--source", good, "--source-timeout", "-1s"},
		{"--source", good, "--source-max-bytes", "1GiB"},
		{"--source", good, "--source-header", "PMC=X-Key: secret"},
		{"--source", good, "--source-header", "PubMed=secret"},
		{"--source", good, "--source-header", "PubMed=secret key: x"},
		{"--source", good, "--source-header", "secret"},
	} {
		for _, verb := range [][]string{{"run", file}, {"work"}} {
			args := append(append(verb, "--data", t.TempDir()), flags...)
			r := must(t, exitUsage, args...)
			if !strings.Contains(r.stderr, "source") || strings.Contains(strings.ReplaceAll(r.stderr, "https://host/?secret=1", ""), "secret") {
				t.Errorf("%v: %s", flags, r.stderr)
			}
		}
	}
}

// Who stops while a source is away is told why nothing happens and how to go on, and nobody is told secrets.
func TestRunWithoutItsSource(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	run := start(t, strings.NewReader(""), "run", sourcedFile(t), "--data", t.TempDir(), "--project", "my-corpus",
		"--source", "PubMed=http://me:secret@"+address+"/ask?key=secret", "--source-header", "PubMed=X-Key: secret",
		"--source-patience", "10ms")
	run.await(&run.stderr, `document source does not answer, trying again" source="PubMed \(http://`+address+`/ask\)"`)
	run.interrupted("to go on:\n  tallyman run .*--source-patience=10ms" +
		` --source='PubMed=http://me:xxxxx@` + address + `/ask\?xxxxx' --source-header='PubMed=X-Key: xxxxx' `)
	if strings.Contains(run.stderr.String()+run.stdout.String(), "secret") {
		t.Errorf("a secret is told:\n%s", run.stderr.String())
	}
}
