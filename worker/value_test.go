package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// values returns what a batch has kept, by position.
func (b *batch) values() map[int32]string {
	got := map[int32]string{}
	for _, r := range b.results {
		if old, ok := got[r.GetPosition()]; ok {
			got[r.GetPosition()] = old + " and " + string(r.GetValue())
			continue
		}
		got[r.GetPosition()] = string(r.GetValue())
	}
	return got
}

func TestValuesAreReportedWithTheirItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(5)
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			value := json.RawMessage("{\n \"a\": [1, 2]\n}")
			b.Report(worker.Result{Outcome: worker.Stored, Value: value}, worker.Result{Outcome: worker.Stored})
			copy(value, "overwritten")
			<-time.After(3 * time.Second) // a beat carries them
			b.Report(worker.Result{Outcome: worker.Rejected, Value: json.RawMessage(`null`)},
				worker.Result{Outcome: worker.Stored, Value: json.RawMessage{}},
				worker.Result{Outcome: worker.Stored, Value: json.RawMessage(` "日本" `)})
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[int32]string{0: `{"a":[1,2]}`, 2: `null`, 4: `"日本"`}, b.values()); diff != "" {
			t.Errorf("values (-want +got):\n%s", diff)
		}
		if len(b.outcomes) != 5 || b.end.GetFromItem() != 2 || len(b.end.GetResults()) != 2 {
			t.Errorf("%d outcomes, settled with %v", len(b.outcomes), b.end)
		}
	})
}

// What does not fit into a settle goes with beats before it, without waiting for their turn, and none of it twice.
func TestManyValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		batches := []*batch{c.add(200), c.add(200)}
		var most, lost int
		c.beaten = func(m *pb.HeartbeatRequest) { most = max(most, proto.Size(m)) }
		c.after = func(call string, _ int) error {
			if call == "beat" && lost < 3 { // its answer
				lost++
				return unavailable
			}
			return nil
		}
		value := func(batch int64, n int) string {
			return fmt.Sprintf(`"%d.%d %s"`, batch, n, strings.Repeat("v", 20_000))
		}
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for n := range b.Open() {
				b.Report(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(value(b.ID, b.Done+n))})
			}
			return nil
		})
		began := time.Now()
		r := start(t, conn, h, worker.Config{Slots: 2, ClaimWait: time.Second, ExitWhenIdle: true})
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			want := map[int32]string{}
			for n := range 200 {
				want[int32(n)] = value(b.id, n)
			}
			if diff := cmp.Diff(want, b.values()); diff != "" || b.ends != 1 {
				t.Errorf("batch %d: %d ends, values (-want +got):\n%s", b.id, b.ends, diff)
			}
			if size := proto.Size(b.end); size > 1<<20 {
				t.Errorf("batch %d was settled with %d bytes", b.id, size)
			}
		}
		if most > 1<<20+64<<10 || lost != 3 {
			t.Errorf("a beat had %d bytes, %d answers were lost", most, lost)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("took %v, want that beats follow each other closely", took)
		}
	})
}

// More than a beat carries does not wait until the handler returns.
func TestManyValuesLeaveEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b := c.add(50)
		var left int
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			for range b.Open() {
				b.Report(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`"` + strings.Repeat("v", 200_000) + `"`)})
				<-time.After(10 * time.Millisecond)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			left = 50
			for _, beat := range c.beats {
				for _, l := range beat.GetLeases() {
					left -= len(l.GetResults())
				}
			}
			return nil
		})
		if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		if left > 12 || len(b.results) != 50 {
			t.Errorf("%d of %d values were still there at the end of half a second", left, len(b.results))
		}
	})
}

func TestOneValueForManyItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn := serve(t)
		b, other := c.add(5000), c.add(3)
		h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
			if b.ID == other.id {
				b.Report(worker.Result{Outcome: worker.Skipped})
			}
			b.ReportRest(worker.Result{
				Outcome: worker.StoredWithWarnings, Value: json.RawMessage(`"` + strings.Repeat("v", worker.MaxValue-2) + `"`),
				Findings: []worker.Finding{{Severity: worker.SeverityWarning, Code: "LONG"}},
			})
			b.ReportRest(worker.Result{Outcome: worker.Rejected}) // of none
			return nil
		})
		var beats int
		c.beaten = func(m *pb.HeartbeatRequest) {
			for _, l := range m.GetLeases() {
				if n := len(l.GetOutcomes()); n > 0 {
					beats++
				}
				for _, r := range l.GetResults() {
					if r.GetItems() != 2 && r.GetItems() != 5000 {
						t.Errorf("a result of %d items", r.GetItems())
					}
				}
			}
		}
		if err := start(t, conn, h, worker.Config{Slots: 2, ExitWhenIdle: true}).wait(); err != nil {
			t.Fatal(err)
		}
		type kept struct{ Position, Items int32 }
		var got []kept
		for _, r := range append(b.results, other.results...) {
			got = append(got, kept{r.GetPosition(), r.GetItems()})
			if len(r.GetValue()) != worker.MaxValue {
				t.Errorf("the value at %d has %d bytes", r.GetPosition(), len(r.GetValue()))
			}
		}
		if diff := cmp.Diff([]kept{{0, 5000}, {1, 2}}, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if len(b.outcomes) != 5000 || len(other.outcomes) != 3 || len(b.findings) != 1 || b.findings[0].GetPosition() != 0 || beats == 0 {
			t.Errorf("%d and %d outcomes, findings %v, %d beats with outcomes", len(b.outcomes), len(other.outcomes), b.findings, beats)
		}
	})
}

func TestValuesThatCannotBeKept(t *testing.T) {
	large := `"` + strings.Repeat("v", worker.MaxValue-1) + `"`
	warning := worker.Finding{Severity: worker.SeverityWarning, Code: "W"}
	results, err := worker.Try(t.Context(), worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
		b.Report(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`{}`)})
		b.ReportRest(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`1`)})
		return nil
	}), worker.Batch{Items: make([]payload.Item, 3)})
	want := []worker.Result{
		{Outcome: worker.Stored, Value: json.RawMessage(`{}`)}, {Outcome: worker.Stored, Value: json.RawMessage(`1`)}, {Outcome: worker.Stored},
	}
	if diff := cmp.Diff(want, results); diff != "" || err != nil {
		t.Errorf("tried: %v (-want +got):\n%s", err, diff)
	}
	for name, test := range map[string]struct{ value, code, message string }{
		"too large":   {large, "RESULT_TOO_LARGE", "The result has 1048577 bytes, and 1048576 is the most that is kept of an item."},
		"no JSON":     {`{"a":`, "RESULT_NOT_JSON", "The result is not JSON: unexpected end of JSON input."},
		"two":         {`1 2`, "RESULT_NOT_JSON", "The result is not JSON: invalid character '2' after top-level value."},
		"not UTF-8":   {"\"\xff\"", "RESULT_NOT_JSON", "The result is not valid UTF-8."},
		"spaces only": {"  ", "RESULT_NOT_JSON", "The result is not JSON: unexpected end of JSON input."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn := serve(t)
				b := c.add(2)
				h := worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
					b.Report(worker.Result{Outcome: worker.Stored, Value: bytes.Repeat([]byte(" "), worker.MaxValue+1)[:0]},
						worker.Result{Outcome: worker.StoredWithWarnings, Findings: []worker.Finding{warning}, Value: json.RawMessage(test.value)})
					return nil
				})
				if err := start(t, conn, h, worker.Config{Slots: 1, ExitWhenIdle: true}).wait(); err != nil {
					t.Fatal(err)
				}
				if len(b.results) != 0 || len(b.findings) != 2 || b.end.GetEnd() != pb.AttemptEnd_ATTEMPT_END_COMPLETED {
					t.Fatalf("%d values, findings %v, ended %v", len(b.results), b.findings, b.end)
				}
				if diff := cmp.Diff([]pb.Outcome{pb.Outcome_OUTCOME_STORED, pb.Outcome_OUTCOME_REJECTED}, b.outcomes); diff != "" {
					t.Errorf("outcomes (-want +got):\n%s", diff)
				}
				f := b.findings[0].GetFinding()
				if f.GetCode() != test.code || f.GetMessage() != test.message || f.GetItem() != 2 ||
					f.GetSeverity() != pb.Severity_SEVERITY_ERROR || b.findings[1].GetFinding().GetCode() != "W" {
					t.Errorf("findings %v", b.findings)
				}
			})
		})
	}
}
