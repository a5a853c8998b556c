// Package health looks at a coordinator as an operator would: does it answer, does anybody work, do batches crash.
package health

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Enough is from how many batches on a crash rate is worth an alarm.
const Enough = 20

// jobsSeen bounds the open jobs that a look counts, workersSeen the workers.
const (
	jobsSeen    = 1000
	workersSeen = 1000
)

// NoSpace says that, and what to do.
const NoSpace = "the coordinator's database has no space left: make room on its disk, and all goes on by itself"

// Limits are what is no longer fine. Zero values, but Window's, limit nothing.
type Limits struct {
	Window       time.Duration // over which the crash rate is taken
	MaxCrashRate float64       // from 0 to 1; a higher one is not fine, in a window with enough batches
	MinWorkers   int
	MaxWait      time.Duration // for which a job may wait with nobody who works on it
}

// Report is what a look found. Its JSON form is for scripts.
type Report struct {
	OK       bool      `json:"ok"`
	Problems []string  `json:"problems"`
	At       time.Time `json:"at"`

	Reachable bool `json:"reachable"` // something answers
	Serving   bool `json:"serving"`   // and it has its database
	Space     bool `json:"space"`     // which has space left

	WindowSeconds  float64 `json:"window_seconds"`
	Batches        int64   `json:"batches"` // that ended in the window, without the cancelled ones
	BatchesCrashed int64   `json:"batches_crashed"`
	CrashRate      float64 `json:"crash_rate"`

	Workers        int   `json:"workers"`         // alive
	WorkersLacking int   `json:"workers_lacking"` // of these, something that they need
	JobsOpen       int   `json:"jobs_open"`
	BatchesPending int64 `json:"batches_pending"`
	BatchesRunning int64 `json:"batches_running"`

	// The job that has waited longest, with batches that nobody has taken; 0 when there is none.
	WaitingJob     int64   `json:"waiting_job"`
	WaitingSeconds float64 `json:"waiting_seconds"`

	IdleKinds []string `json:"kinds_without_worker"` // kinds of open jobs that no worker serves

	lacks string // what the newest of the workers lacks that lack something
}

// Look asks a coordinator. The error says why there was no answer; the report is complete without it.
func Look(ctx context.Context, c *client.Client, limits Limits) (*Report, error) {
	r := &Report{At: time.Now().UTC(), WindowSeconds: limits.Window.Seconds(), Problems: []string{}, IdleKinds: []string{}}
	says, err := c.Health(ctx)
	if err != nil {
		return r, err
	}
	r.Reachable, r.Serving, r.Space = true, says.Serving, says.Space
	switch {
	case says.Serving:
	case says.Database && !says.Space:
		r.Problems = append(r.Problems, NoSpace)
		return r, nil
	default:
		r.Problems = append(r.Problems, "the coordinator cannot reach its database, or does not know its schema, or is stopping")
		return r, nil
	}
	statistics, err := c.Statistics(ctx, &tallymanv1.GetStatisticsRequest{Window: durationpb.New(limits.Window)})
	if err != nil {
		return r, err
	}
	r.count(statistics)
	kinds, err := r.countWorkers(ctx, c)
	if err != nil {
		return r, err
	}
	if err := r.countJobs(ctx, c, kinds); err != nil {
		return r, err
	}
	r.judge(limits)
	return r, nil
}

func (r *Report) count(s *tallymanv1.GetStatisticsResponse) {
	r.Batches, r.BatchesCrashed, r.CrashRate = s.GetBatches(), s.GetBatchesCrashed(), s.GetCrashRate()
	for _, c := range s.GetBatchesByState() {
		if c.GetState() == tallymanv1.BatchState_BATCH_STATE_CANCELLED {
			r.Batches -= c.GetBatches()
		}
	}
}

func (r *Report) countWorkers(ctx context.Context, c *client.Client) (kinds []string, err error) {
	for w, err := range c.Workers(ctx, &tallymanv1.ListWorkersRequest{PageSize: workersSeen}) {
		if err != nil {
			return nil, err
		}
		if r.Workers == workersSeen {
			break
		}
		if w.GetSilent() {
			continue
		}
		r.Workers++
		if trouble := w.GetTrouble(); trouble != "" {
			if r.WorkersLacking++; r.lacks == "" {
				r.lacks = fmt.Sprintf("worker %s (%s): %s", w.GetWorkerId(), w.GetHost(), trouble)
			}
		}
		kinds = append(kinds, w.GetKinds()...)
	}
	return kinds, nil
}

func (r *Report) countJobs(ctx context.Context, c *client.Client, kinds []string) error {
	open := &tallymanv1.ListJobsRequest{PageSize: jobsSeen, States: []tallymanv1.JobState{
		tallymanv1.JobState_JOB_STATE_RUNNING, tallymanv1.JobState_JOB_STATE_PAUSED, tallymanv1.JobState_JOB_STATE_CANCELLING,
	}}
	for job, err := range c.Jobs(ctx, open) {
		if err != nil {
			return err
		}
		if r.JobsOpen == jobsSeen {
			break
		}
		r.JobsOpen++
		pending, running := Batches(job)
		r.BatchesPending += pending
		r.BatchesRunning += running
		if job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING || pending == 0 || running > 0 {
			continue
		}
		// A job that has been worked on waits since a moment that nobody keeps; it counts while no worker serves it.
		served := slices.Contains(kinds, job.GetKind())
		if !served && !slices.Contains(r.IdleKinds, job.GetKind()) {
			r.IdleKinds = append(r.IdleKinds, job.GetKind())
		}
		since := job.GetSubmittedAt().AsTime()
		if job.GetStartedAt() != nil {
			if served {
				continue
			}
			since = job.GetStartedAt().AsTime()
		}
		if wait := max(time.Since(since), 0).Seconds(); r.WaitingJob == 0 || wait > r.WaitingSeconds {
			r.WaitingJob, r.WaitingSeconds = job.GetJobId(), wait
		}
	}
	slices.Sort(r.IdleKinds)
	return nil
}

// Batches returns how many batches of a job wait and how many run.
func Batches(job *tallymanv1.Job) (pending, running int64) {
	for _, c := range job.GetProgress().GetBatchesByState() {
		switch c.GetState() {
		case tallymanv1.BatchState_BATCH_STATE_PENDING:
			pending = c.GetBatches()
		case tallymanv1.BatchState_BATCH_STATE_RUNNING:
			running = c.GetBatches()
		default:
		}
	}
	return pending, running
}

func (r *Report) judge(limits Limits) {
	problem := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	if r.Batches >= Enough && r.CrashRate > limits.MaxCrashRate {
		problem("crash rate %s is above %s", percent(r.CrashRate), percent(limits.MaxCrashRate))
	}
	if r.Workers < limits.MinWorkers {
		problem("%s alive, fewer than %d", workers(r.Workers), limits.MinWorkers)
	}
	if r.WorkersLacking > 0 {
		problem("%d of %s cannot work for want of what they need, as %s", r.WorkersLacking, workers(r.Workers), display.Clean(r.lacks))
	}
	waiting := time.Duration(r.WaitingSeconds * float64(time.Second))
	if r.WaitingJob != 0 && limits.MaxWait > 0 && waiting > limits.MaxWait {
		problem("job %d has waited for %s with nobody who works on it", r.WaitingJob, display.Duration(waiting))
	}
	r.OK = len(r.Problems) == 0
}

func percent(rate float64) string { return fmt.Sprintf("%.1f %%", 100*rate) }

func workers(n int) string { return display.Plural(int64(n), "worker") }

// Line says all of it in one line.
func (r *Report) Line() string {
	if !r.Serving {
		return "NOT SERVING: " + strings.Join(r.Problems, "; ")
	}
	var b strings.Builder
	b.WriteString("ok: ")
	if !r.OK {
		b.Reset()
		b.WriteString("ALARM: " + strings.Join(r.Problems, "; ") + ": ")
	}
	window := display.Span(time.Duration(r.WindowSeconds * float64(time.Second)))
	fmt.Fprintf(&b, "%s, %s, ", workers(r.Workers), display.Plural(int64(r.JobsOpen), "open job"))
	fmt.Fprintf(&b, "%s pending, %s running, ", display.Plural(r.BatchesPending, "batch"), display.Number(r.BatchesRunning))
	fmt.Fprintf(&b, "crash rate %s (%s of %s in %s)", percent(r.CrashRate), display.Number(r.BatchesCrashed),
		display.Plural(r.Batches, "batch"), window)
	if r.WaitingJob != 0 {
		fmt.Fprintf(&b, ", job %d has waited for %s", r.WaitingJob,
			display.Duration(time.Duration(r.WaitingSeconds*float64(time.Second)).Round(time.Second)))
	}
	if len(r.IdleKinds) > 0 {
		fmt.Fprintf(&b, ", no worker for %s", display.Clean(strings.Join(r.IdleKinds, ", ")))
	}
	return b.String()
}
