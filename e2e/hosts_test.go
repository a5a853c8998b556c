//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

// waitingHandler tells when a batch begins, and when and why its context ends, for which it waits.
type waitingHandler struct {
	worker string
	begun  chan<- string
	told   chan<- toldEnd
}

type toldEnd struct {
	worker string
	at     time.Time
	cause  error
}

func (h waitingHandler) Handle(ctx context.Context, _ *worker.Batch) error {
	h.begun <- h.worker
	<-ctx.Done()
	h.told <- toldEnd{h.worker, time.Now(), context.Cause(ctx)}
	return context.Cause(ctx)
}

// TestEveryHostIsTold pauses and cancels a job at one coordinator: handlers stop at once on every host, also on those
// whose worker beats at another coordinator and is not due to beat for long.
func TestEveryHostIsTold(t *testing.T) {
	t.Parallel()
	const beat, slots = 20 * time.Second, 2
	s := postgresSite(t)
	here, there := *s, *s
	for _, one := range []*site{&here, &there} {
		one.serve("--lease", (3 * beat).String(), "--heartbeat-interval", beat.String())
	}
	begun, told := make(chan string, 100), make(chan toldEnd, 100)
	ctx, cancel := context.WithTimeout(t.Context(), jobTimeout)
	defer cancel()
	for name, one := range map[string]*site{"here": &here, "there": &there} {
		w, err := worker.New(worker.Config{
			Address: one.address, WorkerID: name, Slots: slots,
			Handlers: map[string]worker.Handler{"waiting": waitingHandler{name, begun, told}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		working, stop := context.WithCancel(ctx)
		go func() { ended <- w.Run(working) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("worker %s: %v", name, err)
			}
		})
	}
	conn, err := grpc.NewClient(here.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	jobs := tallymanv1.NewJobServiceClient(conn)

	up, err := here.client.Upload(ctx, strings.NewReader(strings.Repeat("{}\n", 20)), client.Upload{
		Project: project, Kind: "waiting", Policy: &tallymanv1.Policy{BatchItems: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	await := func() {
		t.Helper()
		got := map[string]int{}
		for range 2 * slots {
			select {
			case name := <-begun:
				got[name]++
			case <-ctx.Done():
				t.Fatalf("only %v batches have begun", got)
			}
		}
		if diff := cmp.Diff(map[string]int{"here": slots, "there": slots}, got); diff != "" {
			t.Fatalf("batches that have begun (-want +got):\n%s", diff)
		}
	}
	// order gives an order, and waits until every handler was told.
	order := func(what string, cause error, order func() error) {
		t.Helper()
		asked := time.Now()
		if err := order(); err != nil {
			t.Fatal(err)
		}
		var took []string
		for range 2 * slots {
			select {
			case end := <-told:
				took = append(took, fmt.Sprintf("%s after %v", end.worker, end.at.Sub(asked).Round(time.Millisecond)))
				if !errors.Is(end.cause, cause) {
					t.Errorf("%s: a handler %s was told %v, want %v", what, end.worker, end.cause, cause)
				}
				if end.at.Sub(asked) > beat/2 {
					t.Errorf("%s: a handler %s was told after %v, as if by its own beat", what, end.worker, end.at.Sub(asked))
				}
			case <-ctx.Done():
				t.Fatalf("%s: only these were told: %v", what, took)
			}
		}
		t.Logf("%s: handlers were told %s", what, strings.Join(took, ", "))
	}
	await()
	order("pause", worker.ErrJobPaused, func() error {
		_, err := jobs.PauseJob(ctx, &tallymanv1.PauseJobRequest{JobId: up.JobID})
		return err
	})
	if _, err := jobs.ResumeJob(ctx, &tallymanv1.ResumeJobRequest{JobId: up.JobID}); err != nil {
		t.Fatal(err)
	}
	await()
	order("cancel", worker.ErrJobCancelled, func() error {
		_, err := here.client.Cancel(ctx, up.JobID, "no longer needed")
		return err
	})
	ended := here.await(up.JobID)
	if got := ended.GetState(); got != tallymanv1.JobState_JOB_STATE_CANCELLED {
		t.Errorf("the job is %v, want cancelled", got)
	}
	if diff := cmp.Diff(map[tallymanv1.Outcome]int64{tallymanv1.Outcome_OUTCOME_CANCELLED: 20}, outcomes(ended)); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	here.checkNoCrash(ended, here.server, there.server)
}
