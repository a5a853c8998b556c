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

// explainIdle says why a job stands still, once for each reason, and when it goes on again, until ctx ends. latest is the
// newest snapshot, nil before the first.
func (f *follower) explainIdle(ctx context.Context, c *client.Client, latest *atomic.Pointer[tallymanv1.Job]) {
	ticker := time.NewTicker(idleInterval)
	defer ticker.Stop()
	var before *tallymanv1.Job
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		job := latest.Load()
		if before == nil || moved(before, job) {
			if said != "" {
				fmt.Fprintf(f.progress, "job %d goes on\n", job.GetJobId())
			}
			said = ""
		} else if why := f.whyIdle(ctx, c, job); why != "" && why != said {
			fmt.Fprintf(f.progress, "job %d waits: %s\n", job.GetJobId(), why)
			said = why
		}
		before = job
	}
}

// moved reports whether a job has got on.
func moved(before, now *tallymanv1.Job) bool {
	b, n := before.GetProgress(), now.GetProgress()
	return b.GetItemsEnded() != n.GetItemsEnded() || b.GetBytesRead() != n.GetBytesRead() || before.GetState() != now.GetState()
}

// whyIdle returns why a job stands still and what to do, "" when nothing is known of it. What the coordinator of this
// process logs is not said again.
func (f *follower) whyIdle(ctx context.Context, c *client.Client, job *tallymanv1.Job) string {
	if job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING {
		return ""
	}
	serves, lacks, err := whoServes(ctx, c, job.GetKind())
	pending, running := health.Batches(job)
	switch {
	case err != nil:
		return ""
	case pending > 0 && running == 0 && !serves:
		advice := "start a program that serves it"
		if job.GetKind() == tallymanv1.KindAnnotations {
			advice = "`tallyman work" + f.program.where(f.verb) + "` starts one"
		}
		return fmt.Sprintf("no worker for the kind %s is connected; %s", display.Clean(job.GetKind()), advice)
	case f.verb.Name() == runName:
		return ""
	case lacks != "":
		return display.Clean(lacks) + "; it goes on by itself when that is mended"
	}
	if says, err := c.Health(ctx); err == nil && says.Database && !says.Space {
		return health.NoSpace
	}
	return ""
}

// whoServes reports whether live workers serve a kind, and what they lack if all of them lack something. When nobody can
// tell it returns the error.
func whoServes(ctx context.Context, c *client.Client, kind string) (serves bool, lacks string, err error) {
	able := false
	for w, err := range c.Workers(ctx, &tallymanv1.ListWorkersRequest{PageSize: tallymanv1.MaxPageSize}) {
		if err != nil {
			return false, "", err
		}
		if !slices.Contains(w.GetKinds(), kind) {
			continue
		}
		serves = true
		if w.GetTrouble() == "" {
			able = true
		} else if lacks == "" {
			lacks = fmt.Sprintf("worker %s lacks what it needs: %s", w.GetWorkerId(), w.GetTrouble())
		}
	}
	if able {
		lacks = ""
	}
	return serves, lacks, nil
}
