package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// cuts describes the batches of a job: their first items and sizes.
func (c *coordinator) cuts(jobID int64) (cuts []string) {
	c.t.Helper()
	r, err := c.jobs.ListBatches(c.ctx, &pb.ListBatchesRequest{JobId: jobID, PageSize: 1000})
	c.must(err)
	for _, b := range r.GetBatches() {
		cuts = append(cuts, fmt.Sprintf("%d: %d from %d", b.GetOrdinal(), b.GetItemCount(), b.GetFirstItem()))
	}
	return cuts
}

func (c *coordinator) job(id int64) *pb.Job {
	c.t.Helper()
	r, err := c.jobs.GetJob(c.ctx, &pb.GetJobRequest{JobId: id})
	c.must(err)
	return r.GetJob()
}

func (c *coordinator) findings(jobID int64) []*pb.Finding {
	c.t.Helper()
	r, err := c.jobs.ListFindings(c.ctx, &pb.ListFindingsRequest{JobId: jobID})
	c.must(err)
	return r.GetFindings()
}

func TestUploadIsAnsweredAtOnceAndAsItGrows(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		u := c.open(c.ctx, header("grows"))
		if u.first.GetJobId() == 0 || u.first.GetResumeOffset() != 0 || u.first.GetFinished() {
			t.Errorf("answer to the header: %v", u.first)
		}
		session := c.register("w")
		data := lines(1, 20)
		half := len(lines(1, 10))
		u.chunk(data[:half])
		// The last of the ten items may belong to a batch that is still open; the others can be had already.
		part := u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() >= 8 })
		if part.GetCommittedOffset() <= 0 || part.GetCommittedOffset() > u.at || part.GetFinished() {
			t.Errorf("answer in the middle: %v of %d bytes", part, u.at)
		}
		g := c.claimOne(session, "early")
		if g.GetItemCount() != 2 || len(g.GetPayload()) == 0 {
			t.Errorf("claimed %v while the upload runs", g)
		}
		if a := c.settle(session, completed(g)); a.GetBatchState() != pb.BatchState_BATCH_STATE_COMPLETED {
			t.Errorf("settle while the upload runs: %v", a)
		}
		u.chunk(data[half:])
		last := u.end()
		if last.GetCommittedOffset() != int64(len(data)) || last.GetItems() != 20 || last.GetBatches() != 10 {
			t.Errorf("last answer: %v", last)
		}
	})
}

func TestUploadRefusesWhatDoesNotFit(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		tests := []struct {
			name   string
			send   []*pb.SubmitUploadRequest
			code   codes.Code
			reason string
		}{
			{"a gap", []*pb.SubmitUploadRequest{chunk(0, lines(1, 1)), chunk(9, lines(1, 1))}, codes.InvalidArgument, "OFFSET_GAP"},
			{"an overlap", []*pb.SubmitUploadRequest{chunk(0, lines(1, 1)), chunk(1, lines(1, 1))}, codes.InvalidArgument, "OFFSET_GAP"},
			{"another size", []*pb.SubmitUploadRequest{chunk(0, lines(1, 1)), finish(3)}, codes.InvalidArgument, "OFFSET_GAP"},
			{"a large chunk", []*pb.SubmitUploadRequest{chunk(0, make([]byte, pb.MaxChunk+1))}, codes.InvalidArgument, "INVALID_ARGUMENT"},
			{"an empty message", []*pb.SubmitUploadRequest{{}}, codes.InvalidArgument, "INVALID_ARGUMENT"},
			{"a second header",
				[]*pb.SubmitUploadRequest{{Message: &pb.SubmitUploadRequest_Header{Header: header("again")}}},
				codes.InvalidArgument, "INVALID_ARGUMENT"},
		}
		for i, test := range tests {
			u := c.open(c.ctx, header(fmt.Sprint("refused-", i)))
			for _, m := range test.send {
				c.must(u.Send(m))
			}
			c.wantError(test.name, u.failure(), test.code, test.reason)
		}
		stream, err := c.jobs.SubmitUpload(c.ctx)
		c.must(err)
		c.must(stream.Send(chunk(0, nil)))
		_, err = stream.Recv()
		c.wantError("a chunk before the header", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		stream, err = c.jobs.SubmitUpload(c.ctx)
		c.must(err)
		c.must(stream.CloseSend())
		_, err = stream.Recv()
		c.wantError("no header at all", err, codes.InvalidArgument, "INVALID_ARGUMENT")
		c.submit(header("mine"), lines(1, 1))
		other := header("mine")
		other.Project = "another"
		stream, err = c.jobs.SubmitUpload(c.ctx)
		c.must(err)
		c.must(stream.Send(&pb.SubmitUploadRequest{Message: &pb.SubmitUploadRequest_Header{Header: other}}))
		_, err = stream.Recv()
		c.wantError("another header", err, codes.FailedPrecondition, "UPLOAD_MISMATCH")
	})
}

func TestUploadResumes(t *testing.T) {
	tests := []struct {
		name  string
		file  []byte
		items int64
		batch int32
	}{
		{"plain", lines(1, 41), 41, 2},
		// Long enough for the decompressor to give something before the end.
		{"gzip", zipped(t, lines(1, 20_001)), 20_001, 200},
	}
	cut := map[string]func(c *coordinator, u *upload, cancel func()){
		"closed": func(c *coordinator, u *upload, _ func()) {
			c.must(u.CloseSend())
			c.wantError("closed without finish", u.failure(), codes.Aborted, "UPLOAD_INTERRUPTED")
		},
		"cut": func(_ *coordinator, u *upload, cancel func()) {
			cancel()
			_ = u.failure() // whatever a cancelled call is told
		},
	}
	for _, test := range tests {
		for how, interrupt := range cut {
			t.Run(test.name+" "+how, func(t *testing.T) {
				onBoth(t, func(t *scene) {
					file := test.file
					c := start(t, Config{Database: t.database}, nil)
					undisturbed := header("undisturbed")
					undisturbed.Policy.BatchItems = test.batch
					want := c.cuts(c.submit(undisturbed, file).GetJobId())
					h := header("disturbed")
					h.Policy.BatchItems = test.batch
					h.Size = int64(len(file))
					var jobID, read int64
					for _, to := range []int{len(file) / 3, len(file) - 2} {
						ctx, cancel := context.WithCancel(c.ctx)
						u := c.open(ctx, h)
						jobID = u.first.GetJobId()
						u.chunk(file[u.at:to])
						u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() > u.first.GetItems() })
						interrupt(c, u, cancel)
						cancel()
						now := c.job(jobID).GetProgress()
						if now.GetBytesRead() < read || now.GetBytesRead() > int64(len(file)) {
							t.Errorf("bytes read went from %d to %d of %d", read, now.GetBytesRead(), len(file))
						}
						read = now.GetBytesRead()
					}
					u := c.open(c.ctx, h)
					if got := u.first.GetResumeOffset(); test.name == "plain" && (got != u.first.GetCommittedOffset() || got == 0) {
						t.Errorf("resume offset %d, committed %d", got, u.first.GetCommittedOffset())
					}
					if u.first.GetJobId() != jobID {
						t.Errorf("resumed as job %d, was %d", u.first.GetJobId(), jobID)
					}
					at, err := c.jobs.GetUpload(c.ctx, &pb.GetUploadRequest{UploadId: "disturbed"})
					c.must(err)
					if at.GetUpload().GetResumeOffset() != u.at {
						t.Errorf("GetUpload says %v, the stream was told %d", at.GetUpload(), u.at)
					}
					u.chunk(file[u.at:])
					last := u.end()
					if last.GetItems() != test.items {
						t.Errorf("last answer %v", last)
					}
					if diff := cmp.Diff(want, c.cuts(jobID)); diff != "" {
						t.Errorf("batches (-undisturbed +disturbed):\n%s", diff)
					}
					if again := c.open(c.ctx, h); !again.first.GetFinished() || again.first.GetJobStopped() || again.first.GetJobId() != jobID {
						t.Errorf("opened when it was finished: %v", again.first)
					}
				})
			})
		}
	}
}

func TestUploadResumedWithAnotherFileIsRefused(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		h := header("changed")
		h.Policy = nil
		u := c.open(c.ctx, h)
		file := zipped(t, lines(1, 50_000))
		u.chunk(file[:len(file)-100])
		u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() > 0 })
		c.must(u.CloseSend())
		c.wantError("interrupted", u.failure(), codes.Aborted, "UPLOAD_INTERRUPTED")
		u = c.open(c.ctx, h)
		u.chunk(zipped(t, lines(2, 50_000)))
		c.must(u.Send(finish(u.at)))
		c.wantError("resumed with another file", u.failure(), codes.FailedPrecondition, "UPLOAD_CHANGED")
	})
}

func TestUploadOpenedAgainFencesTheOlderStream(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		older := c.open(c.ctx, header("twice"))
		newer := c.open(c.ctx, header("twice"))
		older.chunk(lines(1, 10))
		c.must(older.Send(finish(older.at)))
		c.wantError("the older stream", older.failure(), codes.Aborted, "UPLOAD_FENCED")
		newer.chunk(lines(1, 3))
		if last := newer.end(); last.GetItems() != 3 || last.GetJobId() != older.first.GetJobId() {
			t.Errorf("the newer stream: %v", last)
		}
	})
}

func TestUploadThatCannotBeReadFailsItsJob(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("pdf"), []byte("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"))
		if !up.GetFinished() || !up.GetJobStopped() {
			t.Errorf("last answer %v, want the job stopped", up)
		}
		j := c.ended(up.GetJobId())
		if j.GetState() != pb.JobState_JOB_STATE_FAILED || !strings.Contains(j.GetReason(), "PDF") {
			t.Errorf("ended as %v because %q", j.GetState(), j.GetReason())
		}
		if f := c.findings(up.GetJobId()); len(f) != 1 || f[0].GetCode() != "NOT_JSON" || f[0].GetFile() != "pdf.jsonl" {
			t.Errorf("findings %v", f)
		}
		if again := c.open(c.ctx, header("pdf")); !again.first.GetFinished() || !again.first.GetJobStopped() {
			t.Errorf("opened again: %v, want the same answer", again.first)
		}
	})
}

func TestUploadTruncatedKeepsWhatWasRead(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		file := zipped(t, lines(1, 5000))
		up := c.submit(header("truncated"), file[:len(file)-20])
		if up.GetJobStopped() || up.GetItems() == 0 {
			t.Fatalf("last answer %v", up)
		}
		session := c.register("w")
		for done := int64(0); done < up.GetItems(); {
			for i, g := range c.claim(session, fmt.Sprint("r", done), 1000) {
				done += int64(g.GetItemCount())
				if a := c.settle(session, completed(g)); a.GetStatus() != pb.SettleStatus_SETTLE_STATUS_SETTLED {
					t.Fatalf("settle %d: %v", i, a)
				}
			}
		}
		j := c.ended(up.GetJobId())
		if j.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS || j.GetProgress().GetItemsEnded() != up.GetItems() {
			t.Errorf("ended as %v", j)
		}
		if f := c.findings(up.GetJobId()); len(f) != 1 || f[0].GetCode() != "TRUNCATED" {
			t.Errorf("findings %v", f)
		}
	})
}

func TestUploadEmptyOrBlankEndsWithAWarning(t *testing.T) {
	for name, file := range map[string][]byte{"empty": nil, "blank": []byte("\n \n\r\n")} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, func(t *scene) {
				c := start(t, Config{Database: t.database}, nil)
				up := c.submit(header("empty"), file)
				j := c.ended(up.GetJobId())
				if j.GetState() != pb.JobState_JOB_STATE_SUCCEEDED || j.GetProgress().GetItemsTotal() != 0 ||
					j.GetProgress().GetWarnings() != 1 {
					t.Errorf("ended as %v", j)
				}
				if f := c.findings(up.GetJobId()); len(f) != 1 || f[0].GetCode() != "EMPTY_UPLOAD" {
					t.Errorf("findings %v", f)
				}
			})
		})
	}
}

func TestUploadOfBadItemsOnly(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		up := c.submit(header("bad"), []byte("{\"a\":\n{\"b\":1,\"b\":2}\nnot json\n"))
		j := c.ended(up.GetJobId())
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_REJECTED: 3}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if j.GetState() != pb.JobState_JOB_STATE_COMPLETED_WITH_ERRORS || j.GetProgress().GetErrors() != 3 ||
			len(j.GetProgress().GetBatchesByState()) != 0 {
			t.Errorf("ended as %v", j)
		}
		for i, f := range c.findings(up.GetJobId()) {
			if f.GetItem() != int64(i)+1 || f.GetLine() != int64(i)+1 || f.GetFile() != "bad.jsonl" {
				t.Errorf("finding %d: %v", i, f)
			}
		}
	})
}

func TestUploadEndsWhenItsJobIsCancelled(t *testing.T) {
	onBoth(t, func(t *scene) {
		c := start(t, Config{Database: t.database}, nil)
		u := c.open(c.ctx, header("cancelled"))
		u.chunk(lines(1, 10))
		u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() > 0 })
		_, err := c.jobs.CancelJob(c.ctx, &pb.CancelJobRequest{JobId: u.first.GetJobId()})
		c.must(err)
		u.chunk(lines(11, 10))
		last := u.end()
		if !last.GetJobStopped() {
			t.Errorf("last answer %v, want the job stopped", last)
		}
		j := c.ended(u.first.GetJobId())
		if j.GetState() != pb.JobState_JOB_STATE_CANCELLED || j.GetProgress().GetItemsOpen() != 0 {
			t.Errorf("ended as %v", j)
		}
		if again := c.open(c.ctx, header("cancelled")); !again.first.GetFinished() || !again.first.GetJobStopped() {
			t.Errorf("opened again: %v", again.first)
		}
	})
}

func TestUploadSurvivesTheCoordinator(t *testing.T) {
	inMemory(t, func(t *scene) {
		first := start(t, Config{Database: t.database}, nil)
		u := first.open(first.ctx, header("survives"))
		u.chunk(lines(1, 10))
		u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() > 0 })
		first.must(first.halt())
		first.wantError("a stream when the coordinator stops", u.failure(), codes.Unavailable, "SHUTTING_DOWN")

		second := start(t, Config{Database: t.database}, nil)
		u = second.open(second.ctx, header("survives"))
		if u.at == 0 {
			t.Error("nothing was kept")
		}
		u.chunk(lines(1, 13)[u.at:])
		if last := u.end(); last.GetItems() != 13 {
			t.Errorf("last answer %v", last)
		}
	})
}

func TestUploadAbandonedFailsItsJob(t *testing.T) {
	inMemory(t, func(t *scene) {
		c := start(t, Config{Database: t.database, UploadTimeout: 10 * time.Minute}, nil)
		u := c.open(c.ctx, header("abandoned"))
		u.chunk(lines(1, 4))
		u.until("a commit", func(m *pb.SubmitUploadResponse) bool { return m.GetItems() > 0 })
		c.must(u.CloseSend())
		c.wantError("closed", u.failure(), codes.Aborted, "UPLOAD_INTERRUPTED")
		pass(9 * time.Minute)
		if j := c.job(u.first.GetJobId()); j.GetState() != pb.JobState_JOB_STATE_RUNNING {
			t.Fatalf("after 9 minutes: %v", j)
		}
		pass(3 * time.Minute)
		j := c.ended(u.first.GetJobId())
		if j.GetState() != pb.JobState_JOB_STATE_FAILED || j.GetReason() == "" {
			t.Errorf("ended as %v because %q", j.GetState(), j.GetReason())
		}
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_CANCELLED: j.GetProgress().GetItemsTotal()}, outcomes(j)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		if len(c.log.lines(t, "upload abandoned")) != 1 {
			t.Error("the log does not say so once")
		}
	})
}
