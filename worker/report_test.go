package worker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

func TestBeatsCarryWhatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(30)
		finding := worker.Finding{Severity: worker.SeverityWarning, Code: "CROSSING", Message: "Look."}
		h := worker.HandlerFunc(func(ctx context.Context, b *worker.Batch) error {
			ticker := time.NewTicker(290 * time.Millisecond)
			defer ticker.Stop()
			for range b.Open() {
				<-ticker.C
				b.Report(worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{finding}})
			}
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		var carried, findings int
		var at int32
		for _, beat := range c.beats {
			for _, l := range beat.GetLeases() {
				if l.GetFromItem() != at {
					t.Errorf("a beat reports from %d, want %d", l.GetFromItem(), at)
				}
				for _, run := range l.GetOutcomes() {
					carried += int(run.GetCount())
					at += run.GetCount()
				}
				findings += len(l.GetFindings())
			}
		}
		if carried < 25 {
			t.Errorf("beats carried %d outcomes, want most of 30", carried)
		}
		if int(b.end.GetFromItem()) != carried || len(b.end.GetOutcomes()) > 1 || len(b.end.GetFindings()) != 30-findings {
			t.Errorf("settled with %v after beats had carried %d outcomes and %d findings", b.end, carried, findings)
		}
		if len(b.outcomes) != 30 || len(b.findings) != 30 {
			t.Errorf("%d outcomes and %d findings, want 30", len(b.outcomes), len(b.findings))
		}
		if n := c.count("beat"); n > 15 {
			t.Errorf("%d beats in 9 s, want at most one a second", n)
		}
	})
}

func TestFastBatchesDoNotHastenBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		r := start(t, conn, worker.HandlerFunc(storing), worker.Config{Slots: 1})
		for range 60 {
			c.add(3)
			<-time.After(500 * time.Millisecond)
		}
		r.stop()
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		if n := c.count("beat"); n > 8 {
			t.Errorf("%d beats in 30 s, want one every 5", n)
		}
	})
}

func TestLargeReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		batches := []*batch{c.add(200), c.add(200)}
		var most int
		c.beaten = func(m *pb.HeartbeatRequest) { most = max(most, proto.Size(m)) }
		sentence := strings.Repeat("This is wrong. ", 60)
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for range b.Open() {
				findings := make([]worker.Finding, 50)
				for i := range findings {
					findings[i] = worker.Finding{Severity: worker.SeverityError, Code: "WRONG", Message: sentence}
				}
				b.Report(worker.Result{Outcome: worker.Rejected, Findings: findings})
			}
			return nil
		})
		began := time.Now()
		r := start(t, conn, h, worker.Config{Slots: 2, ClaimWait: time.Second, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if b.ends != 1 || len(b.outcomes) != 200 || len(b.findings) != 200*50 {
				t.Errorf("batch %d: %d ends, %d outcomes, %d findings", b.id, b.ends, len(b.outcomes), len(b.findings))
			}
			for i, f := range b.findings {
				if int(f.GetPosition()) != i/50 {
					t.Fatalf("finding %d is of item %d", i, f.GetPosition())
				}
			}
			if size := proto.Size(b.end); size > 1<<20 {
				t.Errorf("batch %d was settled with %d bytes", b.id, size)
			}
		}
		if most > 1<<20+64<<10 {
			t.Errorf("a beat had %d bytes", most)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v, want that beats follow each other closely", took)
		}
	})
}

func TestLargeReportsThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(100)
		c.answers = func(a *pb.LeaseAnswer) { a.AcknowledgedItems = 0 }
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for range b.Open() {
				findings := make([]worker.Finding, 50)
				for i := range findings {
					findings[i] = worker.Finding{Severity: worker.SeverityError, Message: strings.Repeat("x", 1000)}
				}
				b.Report(worker.Result{Outcome: worker.Rejected, Findings: findings})
			}
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_FAILED || b.end.GetRetryable() || c.count("beat") > 10 {
			t.Errorf("ended with %v after %d beats", b.end, c.count("beat"))
		}
	})
}

func TestFindingsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(2)
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			many := make([]worker.Finding, 3000)
			for i := range many {
				many[i] = worker.Finding{Severity: worker.SeverityWarning, Code: "MANY", Message: "short"}
			}
			many[2999].Severity = worker.SeverityError
			long := make([]worker.Finding, 900)
			for i := range long {
				long[i] = worker.Finding{
					Severity: worker.SeverityWarning, Code: strings.Repeat("C", 500), Path: strings.Repeat("p", 5000),
					Message: strings.Repeat("日", 5000) + "\x00",
				}
			}
			b.Report(worker.Result{Outcome: worker.Rejected, Findings: many},
				worker.Result{Outcome: worker.StoredWithWarnings, Findings: long})
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		var many, long []*pb.Finding
		for _, f := range b.findings {
			if f.GetPosition() == 0 {
				many = append(many, f.GetFinding())
			} else {
				long = append(long, f.GetFinding())
			}
		}
		if len(many) != 1001 || len(long) > 300 || len(long) < 100 {
			t.Fatalf("%d and %d findings", len(many), len(long))
		}
		last := many[1000]
		if last.GetCode() != "MORE_FINDINGS" || last.GetSeverity() != pb.Severity_SEVERITY_ERROR ||
			last.GetMessage() != "There are 2000 more findings about this item, which are not listed." {
			t.Errorf("the last is %v", last)
		}
		want := []int{128, 2048, 2046} // not in the middle of a character
		if d := cmp.Diff(want, []int{len(long[0].GetCode()), len(long[0].GetPath()), len(long[0].GetMessage())}); d != "" {
			t.Errorf("lengths (-want +got)\n%s", d)
		}
	})
}
