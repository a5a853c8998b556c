package display

import (
	"bytes"
	"strings"
	"testing"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// TestFailedItemsAreErrors has items fail with their batches, which leaves no findings, and takes them back as a retry does.
func TestFailedItemsAreErrors(t *testing.T) {
	j := job(tallymanv1.JobState_JOB_STATE_COMPLETED_WITH_ERRORS, true)
	stored := j.GetProgress().GetItemsByOutcome()
	for _, c := range []struct {
		failed          int64
		line, list, sum string
	}{
		{120, ", 121 errors,", " 121 ", "findings     1 error, 2 warnings, and 120 items that failed with their batches\n"},
		{0, ", 1 error,", " 1 ", "findings     1 error, 2 warnings\n"},
	} {
		j.Progress.ItemsByOutcome = stored
		if c.failed > 0 {
			j.Progress.ItemsByOutcome = append(stored[:len(stored):len(stored)],
				&tallymanv1.OutcomeCount{Outcome: tallymanv1.Outcome_OUTCOME_FAILED, Items: c.failed})
		}
		var list, summary bytes.Buffer
		if _, _, err := Jobs.Write(&list, Table, each([]*tallymanv1.Job{j}), 0); err != nil {
			t.Fatal(err)
		}
		if err := Summary(&summary, j, Groups{}, nil); err != nil {
			t.Fatal(err)
		}
		for got, want := range map[string]string{describe(j): c.line, list.String(): c.list, summary.String(): c.sum} {
			if !strings.Contains(got, want) {
				t.Errorf("%d failed: no %q in:\n%s", c.failed, want, got)
			}
		}
	}
}
