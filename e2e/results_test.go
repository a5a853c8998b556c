//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// author gives each item a result of its own, which says how often the item was handled. At every third batch the first
// attempt fails in the middle. The last items wait until they may be handled.
type author struct {
	last    int64 // items from this one on wait
	may     chan struct{}
	mu      sync.Mutex
	handled map[int64]int // times, by item
}

// written is a result.
type written struct {
	N       int    `json:"n"` // what the item says
	Time    int    `json:"time"`
	Attempt int32  `json:"attempt"`
	Padding string `json:"padding"`
}

// padding makes the results of a batch many times as large as what one message carries.
var padding = strings.Repeat("result ", 5_000)

func (a *author) handle(ctx context.Context, b *worker.Batch) error {
	for i, it := range b.Open() {
		if it.Number >= a.last {
			select {
			case <-a.may:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if b.ID%3 == 0 && b.Attempt == 1 && i == len(b.Items)/2 {
			return errors.New("the first attempt fails")
		}
		var r written
		if err := json.Unmarshal(it.Data, &r); err != nil {
			return err
		}
		a.mu.Lock()
		a.handled[it.Number]++
		r.Time, r.Attempt, r.Padding = a.handled[it.Number], b.Attempt, padding
		a.mu.Unlock()
		value, err := json.Marshal(r)
		if err != nil {
			return err
		}
		b.Report(worker.Result{Outcome: worker.Stored, Value: value})
	}
	return nil
}

// TestResultsOutliveCoordinators kills the coordinator in the middle of reports that are larger than its messages, while
// attempts fail: every item's result is there, once, in the order of the upload.
func TestResultsOutliveCoordinators(t *testing.T) {
	t.Parallel()
	const items = 600
	var file strings.Builder
	for i := range items {
		fmt.Fprintf(&file, "{\"n\":%d}\n", i+1)
	}
	path := filepath.Join(t.TempDir(), "numbers.jsonl")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, engine := range []struct {
		name string
		site func(testing.TB) *site
	}{
		{"postgres", postgresSite},
		{"sqlite", sqliteSite},
	} {
		t.Run(engine.name, func(t *testing.T) {
			t.Parallel()
			s := engine.site(t)
			flags := []string{"--lease", "15s", "--heartbeat-interval", "500ms", "--reconnect-grace", "500ms"}
			s.serve(flags...)
			job := s.upload(path, client.Upload{Kind: "numbers", Policy: &tallymanv1.Policy{BatchItems: 60}})
			a := &author{last: items - 30, may: make(chan struct{}), handled: map[int64]int{}}
			ctx, stop := context.WithCancel(t.Context())
			var workers sync.WaitGroup
			defer func() { stop(); workers.Wait() }()
			for range 2 {
				w, err := worker.New(worker.Config{
					Address: s.address, Handlers: map[string]worker.Handler{"numbers": worker.HandlerFunc(a.handle)}, Slots: 2,
					Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
				})
				if err != nil {
					t.Fatal(err)
				}
				workers.Go(func() {
					if err := w.Run(ctx); err != nil {
						t.Errorf("worker: %v", err)
					}
				})
			}
			for n := range int64(3) {
				eventually(t, jobTimeout, "some more results", func() bool {
					return s.job(job).GetProgress().GetItemsEnded() > n*items/4
				})
				s.server.kill()
				s.serve(flags...)
			}
			close(a.may)
			if ended := s.await(job); ended.GetState() != tallymanv1.JobState_JOB_STATE_SUCCEEDED {
				t.Errorf("the job ended as %v", ended)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			next, later := int64(1), 0
			for r, err := range s.client.Results(t.Context(), &tallymanv1.ExportResultsRequest{JobId: job}) {
				if err != nil {
					t.Fatal(err)
				}
				var got written
				if err := json.Unmarshal(r.GetValue(), &got); err != nil {
					t.Fatal(err)
				}
				if r.GetItem() != next || r.GetLine() != next || int64(got.N) != next || got.Padding != padding {
					t.Fatalf("result %d is of item %d, line %d, and says %.60s", next, r.GetItem(), r.GetLine(), r.GetValue())
				}
				if got.Attempt > 1 {
					later++
				}
				if got.Time < 1 || got.Time > a.handled[next] {
					t.Errorf("item %d was handled %d times, and its result is of time %d", next, a.handled[next], got.Time)
				}
				next++
			}
			if next != items+1 || later == 0 {
				t.Errorf("%d results of %d items, %d of later attempts", next-1, items, later)
			}
		})
	}
}
