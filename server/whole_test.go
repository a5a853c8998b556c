package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func TestJobFromUploadToEnd(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("whole"), lines(1, 5))
		if up.GetItems() != 5 || up.GetBatches() != 3 || up.GetJobStopped() {
			t.Errorf("last answer %v, want 5 items in 3 batches", up)
		}
		session := c.register("w")
		for _, g := range c.claim(session, "r", 8) {
			if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
				t.Errorf("settle: %v", a)
			}
		}
		j := c.ended(up.GetJobId())
		if j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("ended as %v", j)
		}
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: 5}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
}
