//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// What docs/operating.md says to operators, on a server with a job that succeeded (1), one with an item that kills its
// process (2), one that was cancelled (3) and one that waits (4), and a worker that died.
func TestOperatingDocument(t *testing.T) {
	t.Parallel()
	s := postgresSite(t)
	dir := t.TempDir()
	doc := markdown{path: "../docs/operating.md", shell: shell{dir: dir, env: []string{"DB=" + s.store}}}
	// flags returns those of a command that starts a process, but for the ones that the site gives itself.
	flags := func(t testing.TB, b block, verb string, given ...string) []string {
		t.Helper()
		text, ok := strings.CutPrefix(strings.TrimSpace(b.text), "tallyman "+verb+" ")
		for _, g := range given {
			var found bool
			text, found = cutOut(text, g)
			ok = ok && found
		}
		if !ok {
			t.Fatalf("not what starts a %s: %s", verb, b.text)
		}
		return strings.Fields(text)
	}
	runs := func(parts ...string) example {
		return func(t testing.TB, b block) {
			t.Helper()
			got := doc.shell.run(t, b.text)
			for _, part := range parts {
				if !strings.Contains(got.stdout+got.stderr, part) {
					t.Errorf("no %q in:\n%s%s", part, got.stdout, got.stderr)
				}
			}
		}
	}
	doc.examples = map[string]example{
		"sh migrate": runs(),
		"sh serve": func(t testing.TB, b block) {
			t.Helper()
			s.serve(flags(t, b, "serve", `--database "$DB"`, "--listen 127.0.0.1:7650")...)
			doc.shell.real = strings.NewReplacer("127.0.0.1:7650", s.address)
			doc.shell.env = append(doc.shell.env, "TALLYMAN_SERVER="+s.address)
			die(t, s)
		},
		"sh work": func(t testing.TB, b block) {
			t.Helper()
			start(s.t, "work", command{args: append([]string{"work", "--server", s.address, "--store", s.store}, flags(t, b, "work",
				"--server 127.0.0.1:7650", `--store "$DB"`)...)})
			s.await(1)
			dieOfGlyph(t, s)
		},
		"text cron": func(t testing.TB, b block) {
			t.Helper()
			command, ok := strings.CutPrefix(b.text, "*/2 * * * *  ")
			if got := doc.shell.run(t, command); !ok || got.stdout+got.stderr != "" {
				t.Errorf("cron would mail %q", got.stdout+got.stderr)
			}
		},
		"sh bad-batches": runs("there are none"),
		"sh find":        runs("completed"),
		"sh retry":       runs("job 2"),
		"sh grep": func(t testing.TB, b block) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, "server.log"), []byte(s.server.stderr.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			got := doc.shell.run(t, b.text)
			crashed := regexp.MustCompile(`(?m)^.*level=WARN msg="batch crashed" job_id=1 batch_id=1 attempt=1 worker_id=short-lived ` +
				`documents="\[PubMed:.*\]" document_count=\d+ reason=.* batch_state=pending end=died decision="tried again: its first death"$`)
			failed := regexp.MustCompile(`(?m)^.*level=WARN msg="batch failed" job_id=1 batch_id=1 attempt=2 worker_id=short-lived .*` +
				` reason="no space left" batch_state=pending$`)
			if !crashed.MatchString(got.stdout) || !failed.MatchString(got.stdout) || strings.Count(got.stdout, "\n") != 4 { // and two of job 2
				t.Errorf("grep found:\n%s", got.stdout)
			}
		},
		"sh cleanup-dry-run": runs("there are none"),
		"sh cleanup":         runs("there are none"),
		"sh delete": func(t testing.TB, b block) {
			t.Helper()
			for n := 3; n <= 4; n++ {
				path := filepath.Join(dir, fmt.Sprint(n, ".jsonl"))
				if err := os.WriteFile(path, []byte(`{"n":1}`+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				if id := s.upload(path, client.Upload{Kind: "nobody-serves-this", FileName: "x.jsonl"}); id != int64(n) {
					t.Fatalf("job %d, want %d", id, n)
				}
			}
			if _, err := s.client.Cancel(t.Context(), 3, "a test"); err != nil {
				t.Fatal(err)
			}
			s.await(3)
			runs("job 3 deleted")(t, b)
		},
		"sh delete-open": func(t testing.TB, b block) {
			t.Helper()
			if got := doc.shell.try(t, b.text); got.code != 1 || !strings.Contains(got.stderr, "has not ended; cancel it first: tallyman cancel 4") {
				t.Errorf("exit code %d: %s", got.code, got.stderr)
			}
		},
		"sql failover-numbers": func(t testing.TB, b block) {
			t.Helper()
			execute(t, s.connect(), b.text)
			id := s.upload(filepath.Join(dir, "3.jsonl"), client.Upload{Kind: "nobody-serves-this", FileName: "x.jsonl"})
			if id != 1_000_001 {
				t.Errorf("the next job is %d, want 1000001", id)
			}
		},
	}
	doc.test(t)
}

func cutOut(text, part string) (string, bool) {
	before, after, found := strings.Cut(text, part)
	return before + after, found
}

// dieOfGlyph submits job 2, which has an item that kills the command that handles it, and has it handled.
func dieOfGlyph(t testing.TB, s *site) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "glyphs.jsonl")
	var items strings.Builder
	for n := 1; n <= 20; n++ {
		if n == 7 {
			items.WriteString(`{"n":7,"poison":1}` + "\n")
			continue
		}
		fmt.Fprintf(&items, `{"n":%3d}`+"\n", n)
	}
	if err := os.WriteFile(path, []byte(items.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if id := s.upload(path, client.Upload{Kind: "glyphs", FileName: "glyphs.jsonl"}); id != 2 {
		t.Fatalf("job %d, want 2", id)
	}
	succeed(t, "work", "--server", s.address, "--kind", "glyphs", "--worker-id", "host-8", "--slots", "1", "--exit-when-idle", "--exec",
		`while read -r item; do case $item in *poison*) echo bad glyph >&2; kill -SEGV $$;; esac; echo "{}"; done`)
	s.await(2)
}

// die submits job 1 and lets a worker die with its first batch, and then fail it.
func die(t testing.TB, s *site) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.jsonl")
	succeed(t, "sample", "--documents", "40", path)
	if id := s.upload(path, client.Upload{Project: "operating"}); id != 1 {
		t.Fatalf("job %d, want 1", id)
	}
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	workers := tallymanv1.NewWorkerServiceClient(conn)
	for attempt := range 3 {
		r, err := workers.RegisterWorker(t.Context(), &tallymanv1.RegisterWorkerRequest{
			WorkerId: "short-lived", Kinds: []string{tallymanv1.KindAnnotations}, Slots: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if attempt == 2 {
			_, err = workers.DeregisterWorker(t.Context(), &tallymanv1.DeregisterWorkerRequest{SessionId: r.GetSessionId()})
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		claimed, err := workers.ClaimBatches(t.Context(), &tallymanv1.ClaimBatchesRequest{
			SessionId: r.GetSessionId(), RequestId: "1", MaxBatches: 1,
		})
		if err != nil || len(claimed.GetGrants()) != 1 {
			t.Fatalf("claimed %v, %v", claimed, err)
		}
		if attempt == 0 {
			continue // registered again, it has died
		}
		g := claimed.GetGrants()[0]
		_, err = workers.SettleBatches(t.Context(), &tallymanv1.SettleBatchesRequest{
			SessionId: r.GetSessionId(), Settlements: []*tallymanv1.Settlement{{
				BatchId: g.GetBatchId(), Attempt: g.GetAttempt(), End: tallymanv1.AttemptEnd_ATTEMPT_END_FAILED, Retryable: true,
				Message: "no space left",
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
