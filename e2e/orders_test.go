//go:build linux

package e2e

import (
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// jobs returns the service of this one coordinator.
func (s *site) jobs() tallymanv1.JobServiceClient {
	s.t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return tallymanv1.NewJobServiceClient(conn)
}

// TestOrdersOutliveCoordinators gives orders to coordinators that are killed as soon as they have answered: what was
// ordered holds, whoever is left, and whoever comes back.
func TestOrdersOutliveCoordinators(t *testing.T) {
	t.Parallel()
	c := trial.undisturbed(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	s := newSiege(t, postgresSite(t), 6*time.Second)
	workers := []*process{s.work("first", "--slots", "2"), s.work("second", "--slots", "2")}
	s.up = s.uploadPiecemeal(t.Context(), content, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 60}})
	job := s.up.job
	const running = `SELECT count(*) FROM batches WHERE job_id = $1 AND state = 1`
	const unsettled = `SELECT count(*) FROM batches WHERE job_id = $1 AND state < 2`
	const claims = `SELECT count(*) FROM journal WHERE job = $1 AND state = 1 AND was_state = 0`

	for range 2 {
		s.progress()
		release := s.block("fences") // so that there is something to interrupt
		s.up.send(3 * pieceBytes)
		awaitBlocked(t, s.asking.connection(), "fences")
		victim := s.some(1)[0]
		if _, err := victim.jobs().PauseJob(t.Context(), &tallymanv1.PauseJobRequest{JobId: job}); err != nil {
			t.Fatal(err)
		}
		s.bury(victim)
		release()
		eventually(t, jobTimeout, "the paused job to hold nothing", func() bool { return ask[int64](s.asking, running, job) == 0 })
		before := ask[int64](s.asking, claims, job)
		s.up.send(3 * pieceBytes) // an upload may go on
		s.bury(s.some(2)...)
		s.asking.pass(2 * time.Second)
		if after := ask[int64](s.asking, claims, job); after != before {
			t.Errorf("%d batches of the paused job were claimed", after-before)
		}
		victim = s.some(1)[0]
		if _, err := victim.jobs().ResumeJob(t.Context(), &tallymanv1.ResumeJobRequest{JobId: job}); err != nil {
			t.Fatal(err)
		}
		s.bury(victim)
		s.progress()
	}
	s.up.finish()
	ended := s.await(job)
	s.checkTrial(ended, c)
	s.checkStoredOnce(job, c)
	s.checkNobodyAccused(ended, s.servers...)
	checkJournal(t, s.asking.connection(), job)

	stopped := s.upload(c.path, client.Upload{Project: "stopped", Policy: &tallymanv1.Policy{BatchWeight: 60}})
	eventually(t, jobTimeout, "the next job to be in the middle", func() bool { return ask[int64](s.asking, running, stopped) > 0 })
	if _, err := s.some(1)[0].jobs().CancelJob(t.Context(), &tallymanv1.CancelJobRequest{JobId: stopped}); err != nil {
		t.Fatal(err)
	}
	s.bury(s.coordinators...)
	ended = s.await(stopped)
	if got, want := ended.GetState(), tallymanv1.JobState_JOB_STATE_CANCELLED; got != want {
		t.Errorf("the job is %v, want %v", got, want)
	}
	checkSums(t, ended, c.summary.Items)
	if n := outcomes(ended)[tallymanv1.Outcome_OUTCOME_CANCELLED]; n == 0 {
		t.Error("no item was cancelled")
	}
	s.checkNobodyAccused(ended, s.servers...)

	again := &tallymanv1.RetryJobRequest{JobId: stopped, RequestId: "again"}
	for _, victim := range s.some(2) { // the second time it is a repetition
		if _, err := victim.jobs().RetryJob(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		s.bury(victim)
	}
	eventually(t, jobTimeout, "the job to be in the middle again, or at its end", func() bool {
		return ask[int64](s.asking, running, stopped) > 0 || ask[int64](s.asking, unsettled, stopped) == 0
	})
	s.bury(s.coordinators...)
	ended = s.await(stopped)
	if got := ended.GetRun(); got != 2 {
		t.Errorf("the job is in run %d, want 2", got)
	}
	s.checkOutcomes(ended, c)
	checkExport(t, c.exported, s.export("stopped"))
	s.checkNobodyAccused(ended, s.servers...)
	checkJournal(t, s.asking.connection(), stopped)
	for _, w := range workers {
		w.terminate()
	}
}
