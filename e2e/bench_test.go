//go:build linux

package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/bench"
	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

// TestBench runs every scenario, small, and looks for numbers of each: which they are is no test's business.
func TestBench(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t, "empty", nil)
	// One after the other: each has a machine's work to do.
	for _, scenario := range bench.Scenarios() {
		want := []string{"sqlite", "postgres"}
		switch scenario.Name {
		case "start":
			want = []string{"sqlite"}
		case "held":
			want = []string{"postgres"}
		}
		if diff := cmp.Diff(want, measured(t, dsn, scenario.Name)); diff != "" {
			t.Errorf("engines of %s (-want +got):\n%s", scenario.Name, diff)
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

// measured runs a scenario and returns the engines of which it has numbers.
func measured(t *testing.T, dsn, scenario string) []string {
	t.Helper()
	var out result
	// How many batches take long enough to be looked at depends on the machine.
	for batches := 500; ; batches *= 4 {
		out = tallyman(t, "bench", scenario, "--database", dsn, "--dir", t.TempDir(), "-o", "json",
			"--batches", strconv.Itoa(batches), "--slots", "8", "--worker-processes", "2", "--jobs", "3", "--starts", "1",
			"--finished", "40", "--small-jobs", "5", "--big-items", "200", "--documents", "40",
			"--kills", "1", "--lines", "300", "--culprits", "2", "--megabytes", "1", "--sessions", "3", "--watchers", "3", "--for", "500ms")
		if out.code == 0 {
			break
		}
		if batches > 1e6 || !strings.Contains(out.stderr, "too few batches") {
			t.Fatalf("%s ends with code %d", scenario, out.code)
		}
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(out.stdout), &report); err != nil {
		t.Fatalf("the report is no JSON: %v\n%s", err, out.stdout)
	}
	var engines []string
	for _, r := range report.Results {
		if r.Scenario == scenario && len(r.Metrics) > 0 {
			engines = append(engines, r.Engine)
		}
	}
	for _, row := range report.Rows {
		if row.Unit == "batches/s" && row.Median <= 0 {
			t.Errorf("%s on %s: %s is %v %s", row.Scenario, row.Engine, row.Metric, row.Median, row.Unit)
		}
	}
	return engines
}
