//go:build linux

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestInterruptedRun ends a run while half of a file has come, and goes on with it.
func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(*halfRun) (resume []string)
		form func(testing.TB, []byte) []byte
	}{
		{"Ctrl-C", (*halfRun).interrupt, asLines},
		{"kill -9", (*halfRun).kill, asLines},
		{"Ctrl-C in an array", (*halfRun).interrupt, asArray},
		{"kill -9 in an archive", (*halfRun).kill, asArchive},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := small.undisturbed(t)
			h := startHalfRun(t, whole, c.form)
			resume := c.end(h)
			kept := h.job()
			if kept.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING || kept.GetProgress().GetItemsEnded() == 0 {
				t.Errorf("the job after its end: %v, want one that is running and has items that ended", kept)
			}
			if err := os.Remove(h.path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(h.path, h.content, 0o600); err != nil {
				t.Fatal(err)
			}
			again := start(t, "run --resume", command{args: resume, dir: h.dir})
			if code := again.wait(commandTimeout); code != 2 {
				t.Errorf("the resumed run ended with code %d, want 2", code)
			}
			h.site.checkTrial(h.job(), whole)
		})
	}
}

// halfRun is a run that has got half of a file and waits for the rest.
type halfRun struct {
	t       testing.TB
	dir     string
	data    string
	path    string // of the file, a pipe for now
	content []byte // of the whole file
	run     *process
	site    *site
}

// asLines, asArray and asArchive are forms of JSON Lines.
func asLines(_ testing.TB, content []byte) []byte { return content }

func asArray(_ testing.TB, content []byte) []byte {
	return slices.Concat([]byte("[\n"), bytes.ReplaceAll(bytes.TrimSpace(content), []byte("\n"), []byte(",\n")), []byte("\n]\n"))
}

// asArchive has a file for every 50 lines.
func asArchive(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for lines := range slices.Chunk(slices.Collect(bytes.Lines(content)), 50) {
		file := slices.Concat(lines...)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("items/%d.jsonl", b.Len()), Size: int64(len(file)), Mode: 0o600})
		if err == nil {
			_, err = w.Write(file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// startHalfRun returns once the items that have come are stored.
func startHalfRun(t testing.TB, c collection, form func(testing.TB, []byte) []byte) *halfRun {
	t.Helper()
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	content = form(t, content)
	dir := t.TempDir()
	h := &halfRun{t: t, dir: dir, data: filepath.Join(dir, "data"), path: filepath.Join(dir, "items.jsonl"), content: content}
	// A pipe that is never filled up keeps the run in the middle for as long as need be.
	if err := syscall.Mkfifo(h.path, 0o600); err != nil {
		t.Fatal(err)
	}
	h.run = start(t, "run", command{args: []string{"run", h.path, "--project", project, "--data", h.data}, dir: dir})
	pipe, err := os.OpenFile(h.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	if err := pipe.SetWriteDeadline(time.Now().Add(jobTimeout)); err != nil {
		t.Fatal(err)
	}
	half := max(bytes.LastIndexByte(content[:len(content)/2], '\n'), len(content)/3) + 100 // in the middle of an item
	if _, err := pipe.Write(content[:half]); err != nil {
		t.Fatal(err)
	}
	var address string
	eventually(t, startTimeout, "the run to say where it listens", func() bool {
		text, err := os.ReadFile(filepath.Join(h.data, "server.json"))
		address = addressPattern.FindString(string(text))
		return err == nil && address != ""
	})
	h.site = &site{t: t, address: address, client: dial(t, address), store: "sqlite:" + filepath.Join(h.data, "annotations.db")}
	eventually(t, jobTimeout, "the items to be stored", func() bool {
		for job, err := range h.site.client.Jobs(t.Context(), &tallymanv1.ListJobsRequest{}) {
			return err == nil && job.GetProgress().GetItemsEnded() > 0 && job.GetProgress().GetItemsOpen() == 0
		}
		return false
	})
	return h
}

// interrupt presses Ctrl-C, and returns the arguments that the program says go on with it.
func (h *halfRun) interrupt() []string {
	h.t.Helper()
	h.run.signal(syscall.SIGINT)
	if code := h.run.wait(endTimeout); code != 130 {
		h.t.Errorf("the interrupted run ended with code %d, want 130", code)
	}
	said := h.run.stderr.String()
	hint := regexp.MustCompile(`(?m)^ *tallyman (run .*--resume .*)$`).FindStringSubmatch(said)
	if hint == nil {
		h.t.Fatal("the interrupted run does not say how to go on")
	}
	if !strings.Contains(said, "of job 1 have ended and stay so") {
		h.t.Error("the interrupted run does not say what is kept")
	}
	return strings.Fields(hint[1])
}

// kill kills the run, coordinator, worker, client and databases, and returns the arguments that go on with it.
func (h *halfRun) kill() []string {
	h.t.Helper()
	h.run.kill()
	return []string{"run", h.path, "--project", project, "--data", h.data, "--resume", h.job().GetUploadId()}
}

// job returns the only job, from a data folder that nobody serves.
func (h *halfRun) job() *tallymanv1.Job {
	h.t.Helper()
	jobs := parse[tallymanv1.Job](h.t, succeed(h.t, "jobs", "-o", "json", "--data", h.data))
	if len(jobs) != 1 {
		h.t.Fatalf("there are %d jobs, want 1", len(jobs))
	}
	return jobs[0]
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	s := sqliteSite(t)
	s.serve()
	r := tallyman(t, "serve", "--data", s.data, "--listen", "127.0.0.1:0")
	if r.code != 1 {
		t.Errorf("exit code %d, want 1", r.code)
	}
	for _, said := range []string{strconv.Itoa(s.server.cmd.Process.Pid), s.address, s.data} {
		if !strings.Contains(r.stderr, said) {
			t.Errorf("the refusal does not say %s:\n%s", said, r.stderr)
		}
	}
	if got := succeed(t, "jobs", "-o", "json", "--data", s.data); got != "" {
		t.Errorf("there are jobs: %s", got)
	}
	s.server.terminate()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		said string
	}{
		{"an unknown flag", []string{"run", "--nonsense"}, 64, "--nonsense"},
		{"an unknown verb", []string{"nonsense"}, 64, "nonsense"},
		{"a missing argument", []string{"watch"}, 64, "arg"},
		{"a question to nobody", []string{"jobs", "--server", nobody}, 69, nobody},
		{"an upload to nobody", []string{"submit", "items.jsonl", "--project", project, "--server", nobody}, 69, nobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "items.jsonl"), []byte(goods(1)), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, c.name, command{args: c.args, dir: dir})
			if code := p.wait(commandTimeout); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(p.stderr.String(), c.said) {
				t.Errorf("the error does not say %q", c.said)
			}
		})
	}
}

// TestCancel cancels a job while a worker writes, and one follows it.
func TestCancel(t *testing.T) {
	t.Parallel()
	c := small.collection(t)
	s := postgresSite(t)
	s.serve(short...)
	s.work("worker", "--slots", "1")
	// The first job lets the worker make its tables and some progress in general.
	s.await(s.upload(writeFile(t, goods(3)), client.Upload{Project: "first"}))
	release := s.block("store_items")
	submit := start(t, "submit --watch", command{args: []string{
		"submit", c.path, "--watch", "--project", project, "--server", s.address,
	}})
	conn := s.connect()
	awaitBlocked(t, conn, "store_items")
	const job = 2
	eventually(t, jobTimeout, "the upload to be complete", func() bool { return s.job(job).GetIngestDone() })
	succeed(t, "cancel", strconv.Itoa(job), "--yes", "--server", s.address, "--reason", "wrong file")
	if code := submit.wait(commandTimeout); code != 4 {
		t.Errorf("the follower of the cancelled job ended with code %d, want 4", code)
	}
	release()
	ended := s.await(job)
	if got, want := ended.GetState(), tallymanv1.JobState_JOB_STATE_CANCELLED; got != want {
		t.Errorf("the job is %v, want %v", got, want)
	}
	if got := ended.GetReason(); !strings.Contains(got, "wrong file") {
		t.Errorf("the reason is %q, want the one given", got)
	}
	checkSums(t, ended, c.summary.Items)
	if n := outcomes(ended)[tallymanv1.Outcome_OUTCOME_CANCELLED]; n == 0 {
		t.Errorf("outcomes %v, want some that are cancelled", outcomes(ended))
	}
	// The worker is of use afterwards.
	next := s.await(s.upload(writeFile(t, goods(5)), client.Upload{Project: "afterwards"}))
	if got, want := next.GetState(), tallymanv1.JobState_JOB_STATE_SUCCEEDED; got != want {
		t.Errorf("the next job is %v, want %v", got, want)
	}
}

// writeFile writes a file of JSON Lines for a test.
func writeFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "items.jsonl")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(fmt.Errorf("write items: %w", err))
	}
	return path
}
