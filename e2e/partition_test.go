//go:build linux

package e2e

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestPartition has the coordinator and each worker on a host of its own. One worker is cut off for longer than its lease
// and returns, silently and by a pulled cable; then all are, for two leases. Silence is no evidence: nothing may be said
// to have died, no batch may be blamed, and everything must be stored.
func TestPartition(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	const slots = 2 // of each worker
	net := newNetwork(t)
	c := trial.undisturbed(t)
	content, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	// Its Unix socket is in every network, so that workers that are cut off from the coordinator can still write.
	s, _ := serverSite(t)
	conn := s.connect()
	execute(t, conn, keepJournal)
	asking := &asking{s: s, conn: conn}
	server := net.host()
	s.on, s.address = server, server.address+":7650"
	s.serve("--insecure", "--lease", lease.String(), "--heartbeat-interval", "500ms", "--reconnect-grace", "1s")
	s.client = dial(t, server.relay(s.address))
	workers := map[string]*host{}
	var processes []*process
	for _, id := range []string{"first", "second", "third"} {
		workers[id] = net.host()
		s.on = workers[id]
		processes = append(processes, s.work(id, "--slots", strconv.Itoa(slots)))
	}
	up := s.uploadPiecemeal(t.Context(), content, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 60}})

	// held gives the workers something to do and keeps them in the middle of it: once every slot stands before the lock, no
	// batch that is held can be settled.
	held := func(ids ...string) (map[string][]*tallymanv1.Batch, func()) {
		release := s.block("fences")
		up.send(len(content) / 8)
		awaitManyBlocked(t, conn, "fences", slots*len(workers))
		all := map[string][]*tallymanv1.Batch{}
		for _, id := range ids {
			eventually(t, jobTimeout, id+" to hold batches", func() bool {
				all[id] = s.heldBy(up.job, id)
				return len(all[id]) == slots
			})
		}
		return all, release
	}
	for _, cut := range []struct {
		id           string
		break_, mend func(*host)
	}{
		{"first", (*host).disconnect, (*host).connect},
		{"second", (*host).unplug, (*host).plug},
	} {
		batches, release := held(cut.id)
		cut.break_(workers[cut.id])
		eventually(t, jobTimeout, "the leases of "+cut.id+" to end", func() bool { return len(s.heldBy(up.job, cut.id)) == 0 })
		release()
		asking.pass(lease / 2)
		cut.mend(workers[cut.id])
		for _, b := range batches[cut.id] {
			lost := func(a *tallymanv1.Attempt) bool {
				return a.GetAttempt() == b.GetAttempt() && a.GetEnd() == tallymanv1.AttemptEnd_ATTEMPT_END_LOST
			}
			if ends := s.attempts(b.GetBatchId()); !slices.ContainsFunc(ends, lost) {
				t.Errorf("attempt %d at batch %d by %s was not lost while it was cut off: %v", b.GetAttempt(), b.GetBatchId(), cut.id, ends)
			}
		}
		_, release = held(cut.id) // it is back
		release()
	}

	_, release := held("first", "second", "third")
	server.disconnect()
	asking.pass(2 * lease)
	server.connect()
	release()
	up.finish()

	ended := s.await(up.job)
	s.checkTrial(ended, c)
	s.checkStoredOnce(up.job, c)
	s.checkNoneDied(conn, ended)
	t.Logf("%d leases were granted for %d batches", checkJournal(t, conn, up.job), len(s.batches(up.job)))
	for _, p := range processes {
		p.terminate()
	}
}

// checkNoneDied fails the test if any attempt is said to have died, or failed, or any batch to be at fault.
func (s *site) checkNoneDied(conn *pgx.Conn, job *tallymanv1.Job) {
	s.t.Helper()
	for _, b := range s.batches(job.GetJobId()) {
		if b.GetState() != tallymanv1.BatchState_BATCH_STATE_COMPLETED || b.GetCrashes() > 0 || b.GetFailures() > 0 {
			s.t.Errorf("batch %d is %v with %d crashes and %d failures: %v", b.GetBatchId(), b.GetState(), b.GetCrashes(),
				b.GetFailures(), s.attempts(b.GetBatchId()))
		}
	}
	for _, how := range []string{"lost", "released", "died", "failed"} {
		n := value[int64](s.t, conn, `SELECT count(*) FROM attempts WHERE job_id = $1 AND ended_as = $2`, job.GetJobId(), how)
		s.t.Logf("%d attempts are %s", n, how)
		if n > 0 && (how == "died" || how == "failed") {
			s.t.Errorf("%d attempts %s, want none", n, how)
		}
	}
}
