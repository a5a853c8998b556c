//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/sample"
)

// modal is for jobs on documents of which a project has some already.
var modal = &source{name: "modal.jsonl", config: sample.Config{Documents: 240, Bad: 4, Seed: 9}}

// modalFlags leave time to come back after a kill, but not to a worker whose connection the kernel closed.
var modalFlags = []string{"--lease", "15s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}

// afterwards is what a job leaves behind.
type afterwards struct {
	outcomes map[tallymanv1.Outcome]int64
	exported string
}

// leaves returns what a job has left behind. An item that is stored may have a warning because of one that came before,
// and which of two came before the other is a matter of luck.
func leaves(job *tallymanv1.Job, exported string) afterwards {
	by := outcomes(job)
	by[tallymanv1.Outcome_OUTCOME_STORED] += by[tallymanv1.Outcome_OUTCOME_STORED_WITH_WARNINGS]
	delete(by, tallymanv1.Outcome_OUTCOME_STORED_WITH_WARNINGS)
	return afterwards{by, exported}
}

// undisturbedIn returns what a job in some mode leaves behind when nothing disturbs it.
func undisturbedIn(t testing.TB, mode, before, file string) afterwards {
	t.Helper()
	data := t.TempDir()
	tallyman(t, "run", before, "--project", project, "--data", data)
	tallyman(t, "run", file, "--mode", mode, "--project", project, "--data", data)
	jobs := parse[tallymanv1.Job](t, succeed(t, "jobs", "-o", "json", "--data", data))
	if len(jobs) != 2 || jobs[0].GetMode() != mode {
		t.Fatalf("jobs %v", jobs)
	}
	if skipped := outcomes(jobs[0])[tallymanv1.Outcome_OUTCOME_SKIPPED]; (mode == tallymanv1.ModeSkip) != (skipped > 0) {
		t.Fatalf("%d items are skipped in mode %s", skipped, mode)
	}
	return leaves(jobs[0], succeed(t, "export", "--project", project, "--data", data))
}

// TestKillsInEveryMode kills a worker in the middle of batches, and then the coordinator while another worker goes on, in
// jobs that add to what is there, merge into it, or leave it alone: what they leave behind is what an undisturbed run does.
// (TestKillWorker and TestCoordinatorKilled do so in mode replace.)
func TestKillsInEveryMode(t *testing.T) {
	t.Parallel()
	c := modal.collection(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	before := filepath.Join(t.TempDir(), "before.jsonl")
	if err := os.WriteFile(before, []byte(strings.Join(lines[:len(lines)/3], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{tallymanv1.ModeAdd, tallymanv1.ModeMerge, tallymanv1.ModeSkip} {
		want := sync.OnceValue(func() afterwards { return undisturbedIn(t, mode, before, c.path) })
		for name, open := range map[string]func(testing.TB) *site{"postgres": postgresSite, "sqlite": sqliteSite} {
			t.Run(mode+" on "+name, func(t *testing.T) {
				t.Parallel()
				s := open(t)
				job := s.killedIn(mode, before, c.path)
				if diff := cmp.Diff(want(), leaves(job, s.export(project)), cmp.AllowUnexported(afterwards{})); diff != "" {
					t.Errorf("what is left (-undisturbed +got):\n%s", tail(diff))
				}
			})
		}
	}
}

// killedIn has a job in some mode done with a worker killed, and the coordinator.
func (s *site) killedIn(mode, before, file string) *tallymanv1.Job {
	t := s.t
	t.Helper()
	s.serve(modalFlags...)
	victim := s.work("victim", "--slots", "2")
	s.await(s.upload(before, client.Upload{}))
	job := s.upload(file, client.Upload{Mode: mode, Policy: &tallymanv1.Policy{BatchWeight: 50}})
	eventually(t, jobTimeout, "the victim to hold a batch in the middle of the job while it is stopped", func() bool {
		now := s.job(job)
		if client.Ended(now.GetState()) {
			t.Fatal("the job ended before the victim was caught")
		}
		if now.GetProgress().GetItemsEnded() == 0 {
			return false
		}
		victim.freeze()
		if !within(settled, func() bool { return len(s.heldBy(job, "victim")) == 0 }) {
			return true
		}
		victim.thaw()
		return false
	})
	victim.kill()
	// A coordinator that has just started takes nothing from anyone for one lease, so its predecessor sees to the victim's.
	eventually(t, jobTimeout, "the victim's leases to be ended", func() bool { return len(s.heldBy(job, "victim")) == 0 })
	ended := s.job(job).GetProgress().GetItemsEnded()
	s.work("survivor", "--slots", "2")
	eventually(t, jobTimeout, "the survivor to have done something", func() bool {
		return s.job(job).GetProgress().GetItemsEnded() > ended
	})
	s.server.kill()
	s.serve(modalFlags...)
	if client.Ended(s.job(job).GetState()) {
		t.Error("the job ended before the coordinator was killed")
	}
	done := s.await(job)
	died := 0
	for _, b := range s.batches(job) {
		for _, a := range s.attempts(b.GetBatchId()) {
			if a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED {
				died++
			} else if a.GetEnd() != tallymanv1.AttemptEnd_ATTEMPT_END_RELEASED {
				t.Errorf("attempt %d at batch %d ended as %v", a.GetAttempt(), b.GetBatchId(), a.GetEnd())
			}
			if a.GetWorkerId() != "victim" && a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_DIED {
				t.Errorf("attempt %d at batch %d died with %s", a.GetAttempt(), b.GetBatchId(), a.GetWorkerId())
			}
		}
	}
	if died == 0 {
		t.Error("no attempt died")
	}
	return done
}
