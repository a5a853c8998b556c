//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestInterruptedRun presses Ctrl-C while half of a file has come, and goes on as the program says.
func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	c := small.undisturbed(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, path := filepath.Join(dir, "data"), filepath.Join(dir, "items.jsonl")
	// A pipe that is never filled up keeps the run in the middle for as long as need be.
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	run := start(t, "run", command{args: []string{"run", path, "--project", project, "--data", data}, dir: dir})
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := pipe.SetWriteDeadline(time.Now().Add(jobTimeout)); err != nil {
		t.Fatal(err)
	}
	half := bytes.LastIndexByte(content[:len(content)/2], '\n') + 100 // in the middle of an item
	if _, err := pipe.Write(content[:half]); err != nil {
		t.Fatal(err)
	}
	var address string
	eventually(t, startTimeout, "the run to say where it listens", func() bool {
		text, err := os.ReadFile(filepath.Join(data, "server.json"))
		address = addressPattern.FindString(string(text))
		return err == nil && address != ""
	})
	s := &site{t: t, address: address, client: dial(t, address), store: "sqlite:" + filepath.Join(data, "annotations.db")}
	eventually(t, jobTimeout, "items to be stored", func() bool {
		return s.job(1).GetProgress().GetItemsEnded() > 0
	})

	run.signal(syscall.SIGINT)
	if code := run.wait(endTimeout); code <= 0 || code == 2 {
		t.Errorf("the interrupted run ended with code %d, want one that says that it did not finish", code)
	}
	hint := regexp.MustCompile(`(?m)^ *tallyman (run .*--resume .*)$`).FindStringSubmatch(run.stderr.String())
	if hint == nil {
		t.Fatal("the interrupted run does not say how to go on")
	}
	if !strings.Contains(run.stderr.String(), "of job 1 have ended and stay so") {
		t.Error("the interrupted run does not say what is kept")
	}
	kept := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	if len(kept) != 1 || kept[0].GetState() != tallymanv1.JobState_JOB_STATE_RUNNING || kept[0].GetProgress().GetItemsEnded() == 0 {
		t.Errorf("jobs after the interruption: %v, want one that is running and has items that ended", kept)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	again := start(t, "run --resume", command{args: strings.Fields(hint[1]), dir: dir})
	if code := again.wait(commandTimeout); code != 2 {
		t.Errorf("the resumed run ended with code %d, want 2", code)
	}
	jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	if len(jobs) != 1 {
		t.Fatalf("there are %d jobs, want 1", len(jobs))
	}
	s.checkTrial(jobs[0], c)
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	s, dir := sqliteSite(t)
	s.serve()
	r := tallyman(t, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	if r.code != 1 {
		t.Errorf("exit code %d, want 1", r.code)
	}
	for _, said := range []string{strconv.Itoa(s.server.cmd.Process.Pid), s.address, dir} {
		if !strings.Contains(r.stderr, said) {
			t.Errorf("the refusal does not say %s:\n%s", said, r.stderr)
		}
	}
	if got := succeed(t, "jobs", "-o", "json", "--data", dir); got != "" {
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
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "items.jsonl")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(fmt.Errorf("write items: %w", err))
	}
	return path
}
