//go:build linux

package e2e

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestCoordinatorKilled kills the coordinator again and again during an upload, and again while workers are in the middle
// of what is left, and starts it again: client and workers go on by themselves, nothing is tried twice, and everything is
// as after an undisturbed run.
func TestCoordinatorKilled(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, engine := range []struct {
		name string
		site func(testing.TB) *site
	}{
		{"postgres", postgresSite},
		{"sqlite", sqliteSite},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			s := engine.site(t)
			flags := []string{"--lease", "15s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}
			servers := []*process{s.serve(flags...)}
			policy := &tallymanv1.Policy{BatchWeight: 100}
			whole := s.upload(c.path, client.Upload{Project: "undisturbed", Policy: policy})
			s.work("first", "--slots", "2")
			s.work("second", "--slots", "2")
			s.await(whole)

			up := s.uploadPiecemeal(t.Context(), content, client.Upload{Policy: policy})
			again := func() {
				s.server.kill()
				servers = append(servers, s.serve(flags...))
			}
			for range 3 {
				before := s.job(up.job).GetProgress().GetItemsTotal()
				up.send(len(content) / 12)
				eventually(t, jobTimeout, "the upload to go on", func() bool {
					return s.job(up.job).GetProgress().GetItemsTotal() > before
				})
				up.send(len(content) / 100) // so that there is something under way
				again()
			}
			up.finish()
			eventually(t, jobTimeout, "the job to be in the middle", func() bool {
				return s.job(up.job).GetProgress().GetItemsInFlight() > 0
			})
			again()
			if client.Ended(s.job(up.job).GetState()) {
				t.Fatal("the job ended before the coordinator was killed")
			}
			ended := s.await(up.job)
			s.checkTrial(ended, c)
			if diff := cmp.Diff(cuts(s.batches(whole)), cuts(s.batches(up.job))); diff != "" {
				t.Errorf("batches (-undisturbed +got):\n%s", tail(diff))
			}
			for _, b := range s.batches(up.job) {
				if b.GetCrashes() > 0 || b.GetLosses() > 0 || b.GetFailures() > 0 {
					t.Errorf("ended attempts of batch %d: %v, want none", b.GetBatchId(), s.attempts(b.GetBatchId()))
				}
			}
			s.checkNoCrash(ended, servers...)
			checkFindings(t, s.findings(up.job), c.summary.Bad)
		})
	}
}

// TestEverythingKilled kills a coordinator together with the workers and databases inside it, again and again, and
// starts it again: in the end everything is there once.
func TestEverythingKilled(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	s := sqliteSite(t)
	flags := append([]string{"--workers", "2"}, short...)
	s.serve(flags...)
	job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 100, MaxAttempts: 10}})
	caught := 0 // kills in the middle
	for range 3 {
		before := s.job(job)
		if client.Ended(before.GetState()) {
			break
		}
		eventually(t, jobTimeout, "progress", func() bool {
			now := s.job(job)
			return client.Ended(now.GetState()) || now.GetProgress().GetItemsEnded() > before.GetProgress().GetItemsEnded()
		})
		s.server.kill()
		s.serve(flags...)
		if !client.Ended(s.job(job).GetState()) {
			caught++
		}
	}
	if caught == 0 {
		t.Error("the job ended before the first kill")
	}
	s.checkTrial(s.await(job), c)
	checkFindings(t, s.findings(job), c.summary.Bad)
}
