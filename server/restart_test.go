package server

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tallyman-dev/tallyman/client"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// slowly is a file that arrives a few bytes at a time.
type slowly struct{ data []byte }

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	pass(50 * time.Millisecond)
	n := copy(p, s.data[:min(len(s.data), 40)])
	s.data = s.data[n:]
	return n, nil
}

// tally counts how often each item was handled, slowly.
type tally struct {
	mu      sync.Mutex
	handled map[int64]int
}

func (h *tally) Handle(ctx context.Context, b *worker.Batch) error {
	for _, it := range b.Open() {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		h.mu.Lock()
		h.handled[it.Number]++
		h.mu.Unlock()
		b.Report(worker.Result{Outcome: worker.Stored})
	}
	return nil
}

// TestCoordinatorsComeAndGo has a client upload and workers work while their coordinator is restarted again and again,
// and one worker is stopped. Nobody but the test notices.
func TestCoordinatorsComeAndGo(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		database := "sqlite:" + filepath.Join(folder, "tallyman.db")
		var current atomic.Pointer[coordinator]
		conn, err := grpc.NewClient("passthrough:///tallyman", append(carrying(ourselves),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}, MinConnectTimeout: time.Second}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c := current.Load()
				if c == nil {
					return nil, errors.New("nobody listens")
				}
				return c.server.local.DialContext(ctx)
			}))...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var all []*coordinator
		begin := func() {
			c := start(t, Config{Database: database}, nil)
			all = append(all, c)
			current.Store(c)
		}
		begin()

		h := &tally{handled: map[int64]int{}}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		var workers sync.WaitGroup
		defer workers.Wait()
		stops := make([]context.CancelFunc, 3)
		for i := range stops {
			w, err := worker.New(worker.Config{
				Conn: conn, Handlers: map[string]worker.Handler{"probe": h}, Slots: 2, DrainTimeout: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			working, stop := context.WithCancel(ctx)
			defer stop()
			stops[i] = stop
			workers.Go(func() {
				if err := w.Run(working); err != nil {
					t.Errorf("worker: %v", err)
				}
			})
		}
		over := make(chan struct{})
		var restarts sync.WaitGroup
		restarts.Go(func() {
			for i := range 4 {
				select {
				case <-time.After(3 * time.Second):
				case <-over:
					return
				}
				c := current.Swap(nil)
				if err := c.halt(); err != nil {
					t.Errorf("stop coordinator: %v", err)
				}
				pass(time.Second)
				begin()
				if i == 1 {
					stops[0]()
				}
			}
		})
		submitter, err := client.New(client.Config{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		const items = 150
		uploaded, err := submitter.Upload(ctx, &slowly{lines(1, items)}, client.Upload{
			Project: "probing", Kind: "probe", Policy: &pb.Policy{BatchItems: 7},
		})
		if err != nil {
			t.Fatalf("upload: %v", err)
		}
		var last *pb.Job
		for j, err := range submitter.Watch(ctx, uploaded.JobID) {
			if err != nil {
				t.Fatalf("watch: %v", err)
			}
			p := j.GetProgress()
			if last != nil && (j.GetRevision() <= last.GetRevision() || p.GetItemsEnded() < last.GetProgress().GetItemsEnded()) {
				t.Errorf("%v after %v", j, last)
			}
			if p.GetItemsEnded() > p.GetItemsTotal() {
				t.Errorf("progress %v", p)
			}
			last = j
		}
		close(over)
		restarts.Wait()
		if last.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			t.Errorf("the job ended as %v", last)
		}
		if diff := cmp.Diff(map[pb.Outcome]int64{pb.Outcome_OUTCOME_STORED: items}, outcomes(last)); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		h.mu.Lock()
		for n := range int64(items) {
			if h.handled[n+1] == 0 {
				t.Errorf("item %d was never handled", n+1)
			}
		}
		h.mu.Unlock()
		crashed := 0
		for _, c := range all {
			crashed += len(c.log.lines(t, "batch crashed")) + len(c.log.lines(t, "batch failed"))
		}
		if crashed != 0 || len(all) < 3 {
			t.Errorf("%d batches crashed or failed at %d coordinators", crashed, len(all))
		}
		for _, stop := range stops {
			stop()
		}
	})
}
