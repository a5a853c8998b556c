//go:build linux

package e2e

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// patience is how long the workers' handler waits for its store before it gives a batch back.
const patience = 30 * time.Second

// serverSite prepares a site on a database server of its own, which the test may stop and start.
func serverSite(t testing.TB) (*site, *pgtest.Server) {
	t.Helper()
	server := pgtest.StartServer(t, pgtest.Config{})
	dsn := server.DSN("postgres")
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	migrate := exec.CommandContext(ctx, binary(t), "migrate", "--database", dsn, "--store", dsn)
	migrate.Env = environment()
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	return &site{t: t, database: []string{"--database", dsn}, store: dsn}, server
}

// TestStoreAway takes the annotation store away for longer than workers wait for it, while the coordinator has its own
// database: no batch may be blamed, though none may be tried more than once.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	c := small.undisturbed(t)
	stored, server := serverSite(t)
	s := sqliteSite(t)
	s.store = stored.store
	s.serve(short...)
	worker := s.work("worker", "--slots", "2")
	release := s.block("fences")
	conn := s.connect()
	job := s.upload(c.path, client.Upload{Policy: &tallymanv1.Policy{BatchWeight: 200, MaxAttempts: 1}})
	awaitBlocked(t, conn, "fences")
	release()
	if err := server.Stop(pgtest.Immediate); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience+jobTimeout, "the worker to give a batch back", func() bool {
		for _, b := range s.batches(job) {
			if len(s.attempts(b.GetBatchId())) > 0 {
				return true
			}
		}
		return false
	})
	if err := server.Restart(t.Context(), pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	ended := s.await(job)
	s.checkTrial(ended, c)
	s.checkNoCrash(ended, s.server)
	for _, b := range s.batches(job) {
		for _, a := range s.attempts(b.GetBatchId()) {
			if a.GetEnd() != tallymanv1.AttemptEnd_ATTEMPT_END_RELEASED {
				t.Errorf("attempt %d at batch %d ended as %v: %s", a.GetAttempt(), b.GetBatchId(), a.GetEnd(), a.GetMessage())
			}
		}
	}
	s.checkStoredOnce(job, c)
	worker.terminate()
}
