package display

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLogIsBrief(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, slog.LevelWarn)
	log.Info("job progress", "job_id", 1)
	log.With("job_id", 1).WithGroup("g").Warn("batch crashed", "batch_id", 19, "attempt", 2, "worker_id", "embedded",
		"documents", []string{"PubMed:1"}, "document_count", 12, "reason", "the worker\x1b[2J was started again", "batch_state", "pending")
	log.Warn("batch failed", "batch_id", 19, "reason", "no", "batch_state", "failed")
	log.Error("upkeep failed", "what", "remove deleted jobs", "error", errors.New("disk full"))
	want := `batch crashed (job 1, batch 19, attempt 2): the worker\x1b[2J was started again; it is tried again
batch failed (batch 19): no
error: upkeep failed: remove deleted jobs: disk full
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
