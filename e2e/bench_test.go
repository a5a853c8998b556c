//go:build linux

package e2e

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

// TestBench runs every scenario, small, and looks for numbers of each: which they are is no test's business.
func TestBench(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	out := succeed(t, "bench", "--database", dsn, "--dir", t.TempDir(), "-o", "json", "--batches", "2000", "--slots", "8",
		"--worker-processes", "2", "--jobs", "3", "--starts", "1", "--megabytes", "1", "--sessions", "3", "--watchers", "3", "--for", "500ms")
	var report bench.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("the report is no JSON: %v\n%s", err, out)
	}
	type run struct{ Scenario, Engine string }
	ran := map[run]bool{}
	for _, r := range report.Results {
		ran[run{r.Scenario, r.Engine}] = len(r.Metrics) > 0
	}
	want := map[run]bool{
		{"drain", "sqlite"}: true, {"drain", "postgres"}: true, {"latency", "sqlite"}: true, {"latency", "postgres"}: true,
		{"start", "sqlite"}: true, {"held", "postgres"}: true, {"ingest", "sqlite"}: true, {"ingest", "postgres"}: true,
		{"fleet", "sqlite"}: true, {"fleet", "postgres"}: true, {"watch", "sqlite"}: true, {"watch", "postgres"}: true,
	}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("scenarios with numbers (-want +got):\n%s", diff)
	}
	for _, row := range report.Rows {
		if row.Unit == "batches/s" && row.Median <= 0 {
			t.Errorf("%s on %s: %s is %v %s", row.Scenario, row.Engine, row.Metric, row.Median, row.Unit)
		}
	}
	conn := (&site{t: t, store: dsn}).connect()
	if n := value[int](t, conn, `SELECT count(*) FROM pg_database WHERE datname LIKE 'tallyman_bench_%'`); n > 0 {
		t.Errorf("%d databases of the bench are left", n)
	}
	if out := tallyman(t, "bench", "speed"); out.code != 64 {
		t.Errorf("an unknown scenario ends with code %d, want 64: %s", out.code, out.stderr)
	}
}
