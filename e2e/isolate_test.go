//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestIsolatedHandlerKilled kills the processes in which a worker's annotations are handled, in the middle of a transaction.
// The worker lives on, the batches are tried again, and one death names and costs nothing.
func TestIsolatedHandlerKilled(t *testing.T) {
	t.Parallel()
	c := small.undisturbed(t)
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			if name == "sqlite" {
				s.store = postgresSite(t).store // whose transactions can be held up
			}
			s.serve()
			worker := s.work("worker", "--slots", "2", "--isolate")
			release := s.block("fences")
			job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 200}})
			awaitBlocked(t, s.connect(), "fences")
			killed := 0
			for _, pid := range childrenOf(t, worker.cmd.Process.Pid, "handle-annotations") {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				killed++
			}
			eventually(t, jobTimeout, "the worker to tell of a death", func() bool { return len(s.job(job).GetLastCrashes()) > 0 })
			release()

			ended := s.await(job)
			s.checkTrial(ended, c)
			s.checkStoredOnce(job, c)
			died := 0
			for _, b := range s.batches(job) {
				for _, a := range s.attempts(b.GetBatchId()) {
					if a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED && a.GetCrash().GetSignal() == "SIGKILL" {
						died++
						continue
					}
					t.Errorf("attempt %d at batch %d ended as %v: %s", a.GetAttempt(), b.GetBatchId(), a.GetEnd(), a.GetMessage())
				}
				if b.GetState() == tallymanv1.BatchState_BATCH_STATE_CRASHED || b.GetCrashes() > 1 {
					t.Errorf("batch %d is %v after %d crashes", b.GetBatchId(), b.GetState(), b.GetCrashes())
				}
			}
			if died == 0 || died > killed {
				t.Errorf("%d attempts died with %d processes", died, killed)
			}
			worker.terminate()
		})
	}
}

// childrenOf returns the processes that another one started with a word in their command line.
func childrenOf(t *testing.T, parent int, word string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Those that end meanwhile have none.
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		status, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "status"))
		if bytes.Contains(line, []byte(word)) && strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
			found = append(found, pid)
		}
	}
	return found
}
