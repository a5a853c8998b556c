package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/worker"
)

// tag has a tag for every item but each third, and one for those of the last batch together.
func tag(_ context.Context, b *worker.Batch) error {
	if b.Items[0].Number > 10 {
		b.ReportRest(worker.Result{Outcome: worker.Stored, Value: json.RawMessage(`["all"]`)})
		return nil
	}
	for _, it := range b.Open() {
		r := worker.Result{Outcome: worker.Stored}
		if it.Number%3 != 0 {
			r.Value = fmt.Appendf(nil, `{ "tag": "<%d>" }`, it.Number)
		}
		b.Report(r)
	}
	return nil
}

func TestResults(t *testing.T) {
	t.Parallel()
	server, data, address := serve(t)
	var file strings.Builder
	for i := 1; i <= 12; i++ {
		fmt.Fprintf(&file, "{\"n\":%d}\n\n", i)
	}
	submission := start(t, strings.NewReader(file.String()), "submit", "-", "--kind", "tags", "--batch-items", "5", "--server", address)
	if code := submission.wait(); code != exitOK {
		t.Fatalf("submit ended with %d: %s", code, submission.stderr.String())
	}
	if r := must(t, exitOK, "results", "--server", address); r.stdout != "" || !strings.Contains(r.stderr, "job 1: 0 results") {
		t.Errorf("before there are any: %q, %q", r.stdout, r.stderr)
	}
	w, err := worker.New(worker.Config{
		Address: address, Handlers: map[string]worker.Handler{"tags": worker.HandlerFunc(tag)}, Slots: 3, ExitWhenIdle: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, exitOK, "watch", "1", "--server", address)
	if code := server.stop(); code != exitOK {
		t.Errorf("serve ended with %d\n%s", code, server.stderr.String())
	}

	var want, bare strings.Builder
	for i := 1; i <= 10; i++ {
		if i%3 != 0 {
			fmt.Fprintf(&want, `{"item":%d,"file":"stdin","line":%d,"batch_id":%d,"result":{"tag":"<%d>"}}`+"\n", i, 2*i-1, (i+4)/5, i)
			fmt.Fprintf(&bare, `{"tag":"<%d>"}`+"\n", i)
		}
	}
	want.WriteString(`{"item":11,"last_item":12,"file":"stdin","line":21,"batch_id":3,"result":["all"]}` + "\n")
	bare.WriteString(`["all"]` + "\n")
	for _, args := range [][]string{{"results"}, {"results", "1"}, {"results", "--job", "1", "-o", "json"}} {
		r := must(t, exitOK, append(args, "--data", data)...)
		if diff := cmp.Diff(want.String(), r.stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
		if !strings.Contains(r.stderr, "job 1: 8 results") {
			t.Errorf("%s: %s", args, r.stderr)
		}
	}
	if diff := cmp.Diff(bare.String(), must(t, exitOK, "results", "1", "--bare", "--data", data).stdout); diff != "" {
		t.Errorf("bare (-want +got):\n%s", diff)
	}
	if r := must(t, exitOther, "results", "7", "--data", data); !strings.Contains(r.stderr, "there is no job 7") {
		t.Errorf("of an unknown job: %s", r.stderr)
	}
	must(t, exitUsage, "results", "1", "--job", "2", "--data", data)
	must(t, exitUsage, "results", "1", "-o", "tsv", "--data", data)
}
