//go:build linux

package e2e

import (
	"testing"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestCoordinatorKilled kills the coordinator while workers are in the middle of batches, and starts it again: they go
// on under their leases, and nothing is tried twice.
func TestCoordinatorKilled(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	for _, engine := range []struct {
		name string
		site func(*testing.T) *site
	}{
		{"postgres", postgresSite},
		{"sqlite", sqliteSite},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			s := engine.site(t)
			flags := []string{"--lease", "15s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}
			s.serve(flags...)
			s.work("first", "--slots", "2")
			s.work("second", "--slots", "2")
			job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 100}})
			eventually(t, jobTimeout, "the job to be in the middle", func() bool {
				p := s.job(job).GetProgress()
				return p.GetItemsEnded() > 0 && p.GetItemsInFlight() > 0
			})
			s.server.kill()
			s.serve(flags...)
			if client.Ended(s.job(job).GetState()) {
				t.Fatal("the job ended before the coordinator was killed")
			}
			s.checkTrial(s.await(job), c)
			for _, b := range s.batches(job) {
				if b.GetCrashes() > 0 || b.GetLosses() > 0 || b.GetFailures() > 0 {
					t.Errorf("ended attempts of batch %d: %v, want none", b.GetBatchId(), s.attempts(b.GetBatchId()))
				}
			}
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
