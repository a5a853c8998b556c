package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/metrics"
	"github.com/tallyman-dev/tallyman/server/reaper"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/watch"
	"github.com/tallyman-dev/tallyman/server/webhook"
)

// events carries what one part of the coordinator did to the others, and into the log. It is what the parts know of
// each other.
type events struct {
	logger     *slog.Logger
	dispatcher *dispatch.Dispatcher
	hub        *watch.Hub
	roll       *watch.Roll
	maps       *watch.Maps
	folder     *watch.Folder
	reaper     *reaper.Reaper
	beating    *api.Beating
	jobs       store.Store
	metrics    *metrics.Metrics
	webhook    *webhook.Sender // nil for none

	mu       sync.Mutex
	progress map[int64]time.Time // when the progress of a job was last logged
	stopped  map[int64]struct{}  // jobs whose workers here were told to stop
}

var (
	_ dispatch.Events = (*events)(nil)
	_ reaper.Events   = (*events)(nil)
	_ api.Events      = (*events)(nil)
)

func (e *events) run(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(func() { e.dispatcher.Run(ctx) })
	wg.Go(func() { e.hub.Run(ctx) })
	wg.Go(func() { e.roll.Run(ctx) })
	wg.Go(func() { e.folder.Run(ctx) })
	wg.Go(func() { e.reaper.Run(ctx) })
	wg.Go(func() { e.listen(ctx) })
	if e.webhook != nil {
		wg.Go(func() { e.webhook.Run(ctx) })
	}
}

// Changed implements the parts' Events.
func (e *events) Changed(jobID int64, mayEnd bool) { e.folder.Changed(jobID, mayEnd) }

// Returned implements reaper.Events.
func (e *events) Returned(ended []store.Ended) { e.dispatcher.Expired(ended) }

// Stopping implements api.Events.
func (e *events) Stopping(jobID int64) {
	e.mu.Lock()
	e.stopped[jobID] = struct{}{}
	e.mu.Unlock()
	e.reaper.Stopping()
	e.beating.Cancel(e.dispatcher.Ledger().OfJob(jobID))
	// The other coordinators have workers to tell, even when there is nothing to fold.
	e.folder.Announce(jobID)
	e.folder.Changed(jobID, true)
}

// Paused implements api.Events.
func (e *events) Paused(jobID int64) {
	e.beating.Release(e.dispatcher.Ledger().OfJob(jobID))
	e.folder.Announce(jobID)
}

// Resumed implements api.Events.
func (e *events) Resumed(jobID int64) {
	e.dispatcher.Wake(jobID)
	e.folder.Announce(jobID)
}

// Retried implements api.Events.
func (e *events) Retried(jobID int64) {
	e.reaper.Retrying()
	e.Reopened(jobID)
	e.folder.Announce(jobID)
}

// Reopened implements reaper.Events.
func (e *events) Reopened(jobID int64) {
	e.dispatcher.Wake(jobID)
	e.folder.Changed(jobID, false)
}

// Taken implements dispatch.Events.
func (e *events) Taken(leases []job.Lease) { e.beating.Lose(leases) }

// Draining implements dispatch.Events and api.Events.
func (e *events) Draining(sessions []int64) {
	e.dispatcher.Drain(sessions)
	e.beating.Drain(sessions)
}

// Condemned implements reaper.Events.
func (e *events) Condemned(drained []store.DrainedWorker) {
	for _, w := range drained {
		e.logger.Warn("worker is drained, since everything dies on it", "worker_id", w.Worker, "session_id", w.Session,
			"evidence", w.Reason)
		e.Draining([]int64{w.Session})
		for _, id := range w.Jobs {
			e.dispatcher.Wake(id)
			e.folder.Changed(id, false)
		}
	}
}

// Deleted implements api.Events.
func (e *events) Deleted(jobID int64) {
	e.hub.Forget(jobID)
	e.roll.Look(jobID)
	e.folder.Announce(jobID) // also to those who watch the list elsewhere
}

// Current implements api.Events.
func (e *events) Current(ctx context.Context, jobID int64) { e.folder.Current(ctx, jobID) }

// AttemptsEnded implements dispatch.Events: one line for every attempt that crashed or failed, for people who grep.
func (e *events) AttemptsEnded(ended []store.Ended) {
	for _, x := range ended {
		e.metrics.AttemptEnded(x.Kind)
		if x.Kind == job.EndDied {
			e.reaper.Died()
		}
		attrs := []any{
			"job_id", x.JobID, "batch_id", x.BatchID, "attempt", x.Attempt, "worker_id", x.WorkerID,
			"documents", x.Documents, "document_count", x.Total, "reason", x.Message, "batch_state", x.State.String(),
		}
		switch {
		case x.Kind.Crashed():
			e.logger.Warn("batch crashed", append(attrs, "end", string(x.Kind), "decision", x.Decision)...)
		case x.Kind == job.EndFailed:
			e.logger.Warn("batch failed", attrs...)
		default:
			e.logger.Debug("batch returned", append(attrs, "end", string(x.Kind))...)
		}
	}
}

// jobEnded is called once for every job that this coordinator ended.
func (e *events) jobEnded(j job.Job) {
	e.metrics.JobEnded(j.State)
	if e.webhook != nil {
		e.webhook.Wake()
	}
	e.logger.Info("job ended", "job_id", j.ID, "project", j.Project, "state", string(j.State), "reason", j.Reason,
		"items", j.ItemsTotal, "batches", j.BatchesTotal(), "errors", j.Errors, "warnings", j.Warnings)
	e.mu.Lock()
	delete(e.progress, j.ID)
	e.mu.Unlock()
}

// progressPace is the least time between two log lines on a job's progress.
const progressPace = 10 * time.Second

// progressKept bounds how many jobs the pace is known of.
const progressKept = 10_000

// folded is called with every new snapshot of a job that changed here.
func (e *events) folded(j job.Job) {
	e.limited(j)
	if j.State.Ended() {
		e.jobEnded(j)
		return
	}
	now := time.Now()
	e.mu.Lock()
	last, known := e.progress[j.ID]
	if !known && len(e.progress) >= progressKept {
		clear(e.progress) // jobs that ended at other coordinators stay otherwise
	}
	due := now.Sub(last) >= progressPace
	if due || !known {
		e.progress[j.ID] = now
	}
	e.mu.Unlock()
	if known && due {
		e.logger.Info("job progress", "job_id", j.ID, "project", j.Project, "items_ended", j.ItemsEnded(),
			"items", j.ItemsTotal, "ingest_done", j.IngestDone, "batches_open", j.BatchesOpen())
	}
}

// limited tells everybody of a job that was stopped by the fold that made this snapshot, or by another coordinator's.
func (e *events) limited(j job.Job) {
	e.mu.Lock()
	_, told := e.stopped[j.ID]
	if j.State != job.Cancelling {
		delete(e.stopped, j.ID)
	}
	e.mu.Unlock()
	if told || j.State != job.Cancelling {
		return
	}
	e.logger.Warn("job is stopped", "job_id", j.ID, "project", j.Project, "as", string(j.StopAs), "reason", j.Reason)
	e.Stopping(j.ID)
}

// listen takes in what other coordinators say: which jobs have changed, may be claimed from, or are being stopped.
func (e *events) listen(ctx context.Context) {
	err := e.jobs.Listen(ctx, func(c store.Change) {
		if c.All {
			e.dispatcher.Wake(0)
			e.hub.RefreshAll(ctx)
			return
		}
		for _, id := range c.Jobs {
			e.dispatcher.Wake(id)
			e.hub.Refresh(ctx, id)
			e.roll.Look(id)
			e.pushHalt(ctx, id)
		}
	})
	if err != nil && ctx.Err() == nil {
		e.logger.Error("listen to other coordinators", "error", err)
	}
}

// pushHalt tells workers that beat here to stop or give back a job that was stopped or paused elsewhere.
func (e *events) pushHalt(ctx context.Context, jobID int64) {
	leases := e.dispatcher.Ledger().OfJob(jobID)
	if len(leases) == 0 {
		return
	}
	j, err := e.jobs.GetJob(ctx, jobID)
	switch {
	case err != nil: // the next beats are told
	case j.State == job.Cancelling:
		e.beating.Cancel(leases)
	case j.State == job.Paused:
		e.beating.Release(leases)
	}
}
