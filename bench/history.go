package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/bench/sqlite"
	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
)

const (
	// pastBatches is how many batches the jobs of a history have, of one document each.
	pastBatches = 2_000

	// pastTime is how far a history goes back: less far than jobs are kept.
	pastTime = 6 * 24 * time.Hour

	// historyTurns is how often the empty and the full database take turns in draining.
	historyTurns = 4

	// historyTold is how many batches end one by one while their job is watched, if nothing less is asked.
	historyTold = 40

	// watchedKind and claimedKind are kinds of jobs that the workers of a drain do not serve.
	watchedKind, claimedKind = "watched", "claimed"
)

// history asks the same of a coordinator whose database holds many finished batches, and of one that has next to none, in
// turns. Both must have counted right in the end.
func history(ctx context.Context, c Config, engine Engine) (r Result, err error) {
	jobs := max(2, c.Finished/pastBatches)
	batches := max(1, c.Finished/jobs)
	turn := max(1, c.Batches/historyTurns)
	r.Settings = c.queue()
	r.Settings["batches"], r.Settings["finished"] = strconv.Itoa(turn*historyTurns), strconv.Itoa(batches*jobs)
	r.Settings["asked"] = strconv.Itoa(c.Jobs)
	var pasts [2]*past // the empty one comes first
	for i, jobs := range []int{1, jobs} {
		p := &past{batches: batches, jobs: jobs}
		defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
		if err := p.open(ctx, c, engine, turn); err != nil {
			return r, err
		}
		pasts[i] = p
	}
	r.add("history made in", pasts[1].made.Seconds(), "s")
	drained, err := drainInTurns(ctx, pasts)
	if err != nil {
		return r, err
	}
	rate := func(i int) float64 { return float64(turn*historyTurns) / drained[i].Seconds() }
	r.add("drained, empty", rate(0), "batches/s")
	r.add("drained", rate(1), "batches/s")
	r.add("drained, of that when empty", 100*rate(1)/rate(0), "%")
	for _, p := range pasts { // not before: its session does not beat, and making a long history takes longer than it lives
		if p.claims, err = p.claiming(ctx, c.Jobs); err != nil {
			return r, err
		}
	}
	for _, ask := range []struct {
		name string
		once func(*past, context.Context, int) error
	}{{"claim", (*past).claim}, {"watch", (*past).watch}, {"page of batches", (*past).page}, {"find", (*past).find}} {
		var took [2][]time.Duration
		for n := range c.Jobs {
			for i, p := range pasts {
				begun := time.Now()
				if err := ask.once(p, ctx, n); err != nil {
					return r, fmt.Errorf("%s: %w", ask.name, err)
				}
				took[i] = append(took[i], time.Since(begun))
			}
		}
		r.beside(ask.name, took)
	}
	ends := min(historyTold, c.Jobs)
	var told [2][]time.Duration
	for i, p := range pasts {
		if told[i], err = p.told(ctx, ends); err != nil {
			return r, err
		}
	}
	r.beside("told", told)
	for _, p := range pasts {
		if err := p.audit(ctx, int64(turn*historyTurns+ends)); err != nil {
			return r, err
		}
	}
	return r, nil
}

// beside adds how long something took, without a history and with it.
func (r *Result) beside(name string, took [2][]time.Duration) {
	var each [2]Result
	for i := range took {
		each[i].Distribution(name, took[i])
	}
	for m := range min(2, len(each[0].Metrics)) { // the most would be one outlier beside another
		empty, full := each[0].Metrics[m], each[1].Metrics[m]
		r.add(empty.Name+", empty", empty.Value, empty.Unit)
		r.add(full.Name, full.Value, full.Unit)
	}
}

// past is a site with jobs that were done before.
type past struct {
	*site

	batches, jobs int           // that were done
	made          time.Duration // how long it took to make them, but for the first
	job           int64         // the first of them
	queued        []int64       // paused jobs
	claims        claims
	next          string // page of the batches
}

// open makes the site: a job is done, the database multiplies it, jobs to be drained are submitted, workers register.
func (p *past) open(ctx context.Context, c Config, engine Engine, turn int) (err error) {
	if p.site, err = open(ctx, c, engine); err != nil {
		return err
	}
	if err := p.first(ctx); err != nil {
		return err
	}
	if err := p.server.stop(); err != nil {
		return err
	}
	begun := time.Now()
	if copies := p.jobs - 1; copies > 0 {
		step := max(time.Minute, (pastTime / time.Duration(copies)).Truncate(time.Minute))
		if p.db != nil {
			err = p.db.Multiply(ctx, p.job, copies, step)
		} else {
			err = p.file().Multiply(ctx, p.job, copies, step)
		}
		if err != nil {
			return err
		}
	}
	p.made = time.Since(begun)
	if err := p.client.Close(); err != nil {
		return err
	}
	if err := p.serve(ctx); err != nil {
		return err
	}
	for range historyTurns {
		job, err := p.upload(ctx, int64(turn), &tallymanv1.Policy{BatchItems: 1})
		if err != nil {
			return err
		}
		if _, err := p.client.Pause(ctx, job); err != nil {
			return err
		}
		p.queued = append(p.queued, job)
	}
	return p.work(ctx, c.Workers, c.Slots/c.Workers)
}

func (p *past) close(ctx context.Context) error {
	if p.site == nil {
		return nil
	}
	return errors.Join(p.claims.end(ctx), p.site.close(ctx))
}

func (p *past) file() sqlite.File { return sqlite.File(filepath.Join(p.dir, "data", "tallyman.db")) }

// first has the first job done, of small annotated documents.
func (p *past) first(ctx context.Context) (err error) {
	dismiss, err := p.employ(ctx, tallymanv1.KindAnnotations, 100, worker.HandlerFunc(func(_ context.Context, b *worker.Batch) error {
		return finish(b)
	}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	var lines strings.Builder
	for n := range p.batches {
		fmt.Fprintf(&lines, `{"sourcedb":"Bench","sourceid":"%d","text":"One word."}`+"\n", n)
	}
	up, err := p.client.Upload(ctx, strings.NewReader(lines.String()), client.Upload{
		Project: "bench", FileName: "past.jsonl", Policy: &tallymanv1.Policy{BatchItems: 1},
	})
	if err != nil {
		return fmt.Errorf("upload the first job: %w", err)
	}
	p.job = up.JobID
	_, err = p.ended(ctx, p.job)
	return err
}

// drainInTurns drains all that is queued, and returns how long it took each.
func drainInTurns(ctx context.Context, pasts [2]*past) (took [2]time.Duration, err error) {
	for turn := range historyTurns {
		for i := range pasts {
			if turn%2 == 1 { // who came last comes first
				i = len(pasts) - 1 - i
			}
			p, begun := pasts[i], time.Now()
			if _, err := p.client.Resume(ctx, p.queued[turn]); err != nil {
				return took, err
			}
			if _, err := p.ended(ctx, p.queued[turn]); err != nil {
				return took, err
			}
			took[i] += time.Since(begun)
		}
	}
	return took, nil
}

// claim claims one batch.
func (p *past) claim(ctx context.Context, _ int) error { return p.claims.one(ctx) }

// watch waits for the first news of a job that has ended.
func (p *past) watch(ctx context.Context, _ int) error {
	for _, err := range p.client.Watch(ctx, p.job) {
		return err
	}
	return errors.New("nothing was told")
}

// page gets one page of the batches of a job, after another.
func (p *past) page(ctx context.Context, _ int) error {
	page, err := p.claims.jobs.ListBatches(ctx, &tallymanv1.ListBatchesRequest{JobId: p.job, PageToken: p.next})
	p.next = page.GetNextPageToken()
	return err
}

// find looks for a document that one batch held.
func (p *past) find(ctx context.Context, n int) error {
	document := "Bench:" + strconv.Itoa(n%p.batches)
	found := 0
	for _, err := range p.client.Batches(ctx, &tallymanv1.ListBatchesRequest{Document: document}) {
		if err != nil {
			return err
		}
		found++
	}
	if found != 1 {
		return fmt.Errorf("%s is in %d batches, want 1", document, found)
	}
	return nil
}

// told has so many batches end, and returns how long it took from the end of the handler until who watches the job knew.
func (p *past) told(ctx context.Context, batches int) (_ []time.Duration, err error) {
	job, err := p.submit(ctx, watchedKind, int64(batches), &tallymanv1.Policy{BatchItems: 1})
	if err != nil {
		return nil, err
	}
	if _, err := p.client.Pause(ctx, job); err != nil {
		return nil, err
	}
	one := &crowd{site: p.site, job: job, pacer: &pacer{}, first: make(chan struct{}, 1)}
	dismiss, err := p.employ(ctx, watchedKind, 1, one.pacer)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	took, _, err := one.watch(ctx, 1)
	return took, err
}

// audit ends the coordinator, and compares what it counted with the batches that are there: those of the past, and so many
// that were done since.
func (p *past) audit(ctx context.Context, since int64) error {
	if err := p.claims.end(ctx); err != nil {
		return err
	}
	for _, worker := range p.workers {
		if err := worker.stop(); err != nil {
			return err
		}
	}
	if err := p.server.stop(); err != nil {
		return err
	}
	count := p.file().Completed
	if p.db != nil {
		count = p.db.Completed
	}
	counted, there, err := count(ctx)
	if err != nil {
		return err
	}
	if want := int64(p.batches*p.jobs) + since; counted != want || there != want {
		return fmt.Errorf("%d batches are completed by the counters of the jobs, %d by the batches; %d were done", counted, there, want)
	}
	return nil
}
