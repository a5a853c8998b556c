package postgres_test

import (
	"testing"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/store/postgres"
)

// A batch that dies on a worker while that is condemned, so that neither sees the other, is acquitted by the next round.
func TestDeathDuringAVerdict(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "coordinator", postgres.Migrate)
	s := openAt(t, dsn, 4)
	jobID, session := fill(t, s, 1)
	g := claim(t, s, jobID, session, "1", 1)[0]
	end := store.Settlement{Lease: g.Lease, End: job.End{Kind: job.EndDied, Crash: &job.Crash{Signal: "SIGSEGV"}}}
	if _, _, err := s.Settle(t.Context(), []store.Settlement{end}); err != nil {
		t.Fatal(err)
	}
	crashes := func() (int32, string) {
		t.Helper()
		b, _, err := s.GetBatch(t.Context(), g.BatchID)
		if err != nil {
			t.Fatal(err)
		}
		return b.Crashes, b.DiedOn
	}
	if n, on := crashes(); n != 1 || on == "" {
		t.Errorf("after its death: %d crashes on %q", n, on)
	}
	_, err := connect(t, dsn).Exec(t.Context(), `UPDATE sessions SET drained_at = now(), drain_reason = 'all dies' WHERE id = $1`, session)
	if err != nil {
		t.Fatal(err)
	}
	if drained, err := s.JudgeWorkers(t.Context()); err != nil || len(drained) != 0 {
		t.Errorf("drained %v, %v", drained, err)
	}
	if n, on := crashes(); n != 0 || on != "" {
		t.Errorf("after the next round: %d crashes on %q", n, on)
	}
}
