package server

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// documents are items of the kind annotations, each of a document of its own, whose text is nobody's business.
func documents(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"sourcedb":"PubMed","sourceid":"%d","text":"confidential","denotations":[]}`+"\n", i+1)
	}
	return b.Bytes()
}

// People grep the log: one line for every attempt that failed or crashed, with where, who and why, and no other; none of
// what was uploaded but its documents' keys.
func TestOneLineForEveryAttemptThatEndedBadly(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		jobID := c.submit(&pb.UploadHeader{
			UploadId: "logs", Kind: pb.KindAnnotations, Project: "logging", FileName: "a.jsonl", Policy: &pb.Policy{BatchWeight: 12},
		}, documents(48)).GetJobId()
		session := c.serving("w1")
		grants := c.claim(session, "1", 4)
		if len(grants) != 4 {
			t.Fatalf("%d batches, want 4", len(grants))
		}
		keys := map[int64][]any{}
		for _, g := range grants {
			var documents []any
			first := c.batch(g.GetBatchId()).GetBatch().GetFirstItem()
			for i := range int64(10) {
				documents = append(documents, fmt.Sprint("PubMed:", first+i))
			}
			keys[g.GetBatchId()] = documents
		}
		failing, dying, releasing, completing := grants[0], grants[1], grants[2], grants[3]
		transient := failed(failing, "the disk is full")
		transient.Retryable = true
		c.settle(session, transient)
		c.settle(session, &pb.Settlement{
			BatchId: releasing.GetBatchId(), Attempt: releasing.GetAttempt(), End: pb.AttemptEnd_ATTEMPT_END_RELEASED, Message: "stopping",
		})
		c.settle(session, completed(completing))
		c.serving("w1") // what it held before has died
		session = c.serving("w2")
		want := []string{
			fmt.Sprintf("batch failed: job %d batch %d attempt 1 of w1: the disk is full: pending", jobID, failing.GetBatchId()),
			fmt.Sprintf("batch crashed: job %d batch %d attempt 1 of w1: died: pending", jobID, dying.GetBatchId()),
		}
		for left := 3; left > 0; {
			for _, g := range c.claim(session, fmt.Sprint("2-", left), 4) {
				left--
				if g.GetBatchId() == dying.GetBatchId() {
					c.settle(session, failed(g, "no hope"))
					want = append(want, fmt.Sprintf("batch failed: job %d batch %d attempt 2 of w2: no hope: failed", jobID, g.GetBatchId()))
					continue
				}
				c.settle(session, completed(g))
			}
		}
		if j := c.ended(jobID); j.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS {
			t.Fatalf("the job ended %v", j.GetState())
		}
		c.must(c.halt())

		var got []string
		for _, msg := range []string{"batch failed", "batch crashed"} {
			for _, line := range c.log.lines(t, msg) {
				reason := line["reason"]
				if msg == "batch crashed" {
					if reason == "" {
						t.Error("a crash without a reason")
					}
					reason = line["end"]
				}
				got = append(got, fmt.Sprintf("%s: job %v batch %v attempt %v of %v: %v: %v", msg, line["job_id"], line["batch_id"],
					line["attempt"], line["worker_id"], reason, line["batch_state"]))
				if line["level"] != "WARN" || line["document_count"] != 12.0 {
					t.Errorf("%v", line)
				}
				if diff := cmp.Diff(keys[int64(line["batch_id"].(float64))], line["documents"]); diff != "" {
					t.Errorf("documents (-want +got):\n%s", diff)
				}
			}
		}
		want[1], want[2] = want[2], want[1] // failed ones first, as they are looked for
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
		if ends := c.log.lines(t, "job ended"); len(ends) != 1 || ends[0]["level"] != "INFO" || ends[0]["state"] != "completed_with_errors" ||
			ends[0]["items"] != 48.0 {
			t.Errorf("job ended: %v", ends)
		}
		if text := string(c.log.data); strings.Contains(text, "confidential") {
			t.Errorf("the log says too much:\n%s", text)
		}
	})
}

// serving starts a session that serves annotations.
func (c *coordinator) serving(worker string) int64 {
	c.t.Helper()
	r, err := c.workers.RegisterWorker(c.ctx, &pb.RegisterWorkerRequest{WorkerId: worker, Kinds: []string{pb.KindAnnotations}, Slots: 8})
	c.must(err)
	return r.GetSessionId()
}

func TestWhatIsNotThereIsSaid(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		_, err := c.admin.GetStatistics(c.ctx, &pb.GetStatisticsRequest{JobId: 7})
		c.wantError("statistics of an unknown job", err, codes.NotFound, "JOB_NOT_FOUND")
		_, err = c.admin.GetWorker(c.ctx, &pb.GetWorkerRequest{WorkerId: "w"})
		c.wantError("an unknown worker", err, codes.NotFound, "WORKER_NOT_FOUND")
		_, err = c.admin.GetWorker(c.ctx, &pb.GetWorkerRequest{})
		c.wantError("no worker", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		session := c.register("w")
		r, err := c.admin.GetWorker(c.ctx, &pb.GetWorkerRequest{WorkerId: "w"})
		c.must(err)
		if r.GetWorker().GetSessionId() != session {
			t.Errorf("worker %v, want session %d", r, session)
		}
	})
}
