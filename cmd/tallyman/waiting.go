package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/health"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// idleInterval is for how long a job that is watched stands still before its watcher is told why.
const idleInterval = 3 * time.Second

// explainIdle says, once, that a job waits for a worker of a kind of which none is connected. It returns then, or when
// ctx ends. latest is the newest snapshot, nil before the first.
func (f *follower) explainIdle(ctx context.Context, c *client.Client, latest *atomic.Pointer[tallymanv1.Job]) {
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	var before *tallymanv1.Job
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		job := latest.Load()
		if stands(job) && before.GetRevision() == job.GetRevision() && nobodyServes(ctx, c, job.GetKind()) {
			advice := "start a program that serves it"
			if job.GetKind() == tallymanv1.KindAnnotations {
				advice = "`tallyman work" + f.program.where(f.verb) + "` starts one"
			}
			fmt.Fprintf(f.progress, "job %d waits: no worker for the kind %s is connected; %s\n", job.GetJobId(),
				display.Clean(job.GetKind()), advice)
			return
		}
		before = job
	}
}

// stands reports whether a job has batches that nobody works on.
func stands(job *tallymanv1.Job) bool {
	pending, running := health.Batches(job)
	return job.GetState() == tallymanv1.JobState_JOB_STATE_RUNNING && pending > 0 && running == 0
}

// nobodyServes reports whether no live worker serves a kind. When nobody can tell, somebody may.
func nobodyServes(ctx context.Context, c *client.Client, kind string) bool {
	for w, err := range c.Workers(ctx, &tallymanv1.ListWorkersRequest{PageSize: tallymanv1.MaxPageSize}) {
		if err != nil || slices.Contains(w.GetKinds(), kind) {
			return false
		}
	}
	return true
}
