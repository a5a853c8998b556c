//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// library is a document source. It has a text for every id, but for those it lacks.
type library struct {
	lacks map[string]bool
	open  atomic.Bool // otherwise it breaks every connection
}

func (l *library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ids []string
	if err := json.NewDecoder(r.Body).Decode(&ids); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !l.open.Load() {
		panic(http.ErrAbortHandler)
	}
	answer := struct {
		Docs []map[string]string `json:"docs"`
	}{Docs: []map[string]string{}}
	for _, id := range ids {
		if !l.lacks[id] {
			answer.Docs = append(answer.Docs, map[string]string{"sourcedb": "PubMed", "sourceid": id, "text": libraryText(id)})
		}
	}
	json.NewEncoder(w).Encode(answer) //nolint:errcheck,errchkjson // the other end complains
}

func libraryText(id string) string {
	return "Document " + id + " has a first sentence. It has a second one, too."
}

// TestSourceAway has a source that does not answer when a job begins, and then does, without one document: the job waits
// for it, no batch is blamed though none may be tried more than once, and of one document the items are missing. Meanwhile
// the worker is killed.
func TestSourceAway(t *testing.T) {
	t.Parallel()
	s := postgresSite(t)
	s.serve(short...)
	l := &library{lacks: map[string]bool{"42": true}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	flags := []string{"--slots", "2", "--source", "PubMed=" + server.URL, "--source-patience", "1s", "--source-rate", "-1"}
	worker := s.work("worker", flags...)

	const documents = 100
	path := filepath.Join(t.TempDir(), "items.jsonl")
	var lines strings.Builder
	for d := range documents {
		for _, text := range []string{"a first sentence", "a second one"} {
			fmt.Fprintf(&lines, `{"sourcedb":"PubMed","sourceid":"%d","text":%q,"denotations":[{"span":{"begin":2,"end":%d},"obj":"P"}]}`+"\n",
				d, text, len(text))
		}
	}
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	job := s.upload(path, client.Upload{Project: "from-source", Policy: &tallymanv1.Policy{BatchWeight: 20, MaxAttempts: 1}})
	var released *tallymanv1.Attempt
	eventually(t, jobTimeout, "the worker to give a batch back", func() bool {
		for _, b := range s.batches(job) {
			if attempts := s.attempts(b.GetBatchId()); len(attempts) > 0 {
				released = attempts[0]
				return true
			}
		}
		return false
	})
	if want := "the document source is unavailable: PubMed (" + server.URL + "): "; !strings.Contains(released.GetMessage(), want) ||
		released.GetEnd() != tallymanv1.AttemptEnd_ATTEMPT_END_RELEASED {
		t.Errorf("the attempt ended as %v, which does not say %q: %s", released.GetEnd(), want, released.GetMessage())
	}
	if log := worker.stderr.String(); !strings.Contains(log, "document source does not answer, trying again") {
		t.Errorf("the worker does not say what it waits for:\n%s", log)
	}
	if job := s.job(job); job.GetProgress().GetItemsTotal() != 2*documents || len(job.GetProgress().GetItemsByOutcome()) > 0 {
		t.Errorf("without the source items have ended: %v", job.GetProgress())
	}
	worker.kill()
	l.open.Store(true)
	s.work("another", flags...)

	ended := s.await(job)
	outcomes := map[tallymanv1.Outcome]int64{}
	for _, o := range ended.GetProgress().GetItemsByOutcome() {
		outcomes[o.GetOutcome()] = o.GetItems()
	}
	want := map[tallymanv1.Outcome]int64{
		tallymanv1.Outcome_OUTCOME_STORED: 2 * (documents - 1), tallymanv1.Outcome_OUTCOME_DOCUMENT_MISSING: 2,
	}
	if d := cmp.Diff(want, outcomes); d != "" || ended.GetState() != tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS {
		t.Errorf("the job ended as %v; items by outcome (-want +got):\n%s", ended.GetState(), d)
	}
	var missing []string
	for _, f := range s.findings(job) {
		missing = append(missing, fmt.Sprint(f.GetCode(), " ", f.GetDocument(), " ", f.GetLine()))
	}
	if d := cmp.Diff([]string{"DOCUMENT_MISSING PubMed:42 85", "DOCUMENT_MISSING PubMed:42 86"}, missing); d != "" {
		t.Errorf("findings (-want +got):\n%s", d)
	}
	var texts []string
	for line := range strings.Lines(s.export("from-source")) {
		var doc struct {
			SourceID, Text string
			Denotations    []struct{ Span struct{ Begin, End int } }
		}
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, d := range doc.Denotations {
			words = append(words, doc.Text[d.Span.Begin:d.Span.End])
		}
		if d := cmp.Diff([]string{"first sentence", "second one"}, words); d != "" || doc.Text != libraryText(doc.SourceID) {
			t.Errorf("document %s says %q; its annotations (-want +got):\n%s", doc.SourceID, doc.Text, d)
		}
		texts = append(texts, doc.Text)
	}
	if len(texts) != documents-1 {
		t.Errorf("%d documents, want %d", len(texts), documents-1)
	}
}

// The examples of docs/sources.md are run on the source that it starts.
func TestSourcesDocument(t *testing.T) {
	t.Parallel()
	interpreter(t, "python3", "http.server")
	doc := markdown{path: "../docs/sources.md", shell: shell{dir: t.TempDir()}}
	runs := func(t testing.TB, b block) {
		t.Helper()
		doc.shell.run(t, b.text)
	}
	doc.examples = map[string]example{
		"sh documents": runs,
		"sh items":     runs,
		"sh source": func(tb testing.TB, b block) {
			tb.Helper()
			file, ok := strings.CutPrefix(b.text, "python3 examples/source/documents.py ")
			file, here := strings.CutSuffix(file, " 8080 &\n")
			if !ok || !here {
				tb.Fatalf("not what starts the source: %s", b.text)
			}
			doc.shell.real = strings.NewReplacer("http://127.0.0.1:8080/", librarian(t, filepath.Join(doc.shell.dir, file)))
		},
		"sh missing": func(t testing.TB, b block) {
			t.Helper()
			runs(t, b)
			sent, err := os.ReadFile(filepath.Join(doc.shell.dir, "items.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(doc.shell.dir, "missing.jsonl"))
			if d := cmp.Diff(strings.SplitAfter(string(sent), "\n")[2], string(got)); d != "" || err != nil {
				t.Errorf("missing items (-want +got):\n%s\n%v", d, err)
			}
		},
	}
	doc.test(t)
}

// librarian starts the example of a document source and returns its URL. It ends with the test.
func librarian(t *testing.T, file string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	cmd := exec.CommandContext(ctx, interpreterOf("python3"), "../examples/source/documents.py", file, "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait() //nolint:errcheck // it was killed
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the example does not say where it listens: %v", err)
	}
	return strings.TrimSpace(url)
}
