package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Store is what the dispatcher needs of the coordinator's store.
type Store interface {
	store.Leases
	ClaimableJobs(ctx context.Context) ([]job.Job, error)
	GetJob(ctx context.Context, id int64) (job.Job, error)
	TouchSessions(ctx context.Context, sessions []int64) (drained []int64, err error)
}

// Events tells the rest of the coordinator what the dispatcher did. Its methods must not block.
type Events interface {
	// Changed says that a job's counters have changed; mayEnd that nothing of it seems to be left.
	Changed(jobID int64, mayEnd bool)
	// AttemptsEnded says which attempts ended otherwise than by completing.
	AttemptsEnded(ended []store.Ended)
	// Taken says which leases were taken from their holders.
	Taken(leases []job.Lease)
	// Draining says which sessions, heard of here, are being drained. It says so again and again.
	Draining(sessions []int64)
}

// Config of a Dispatcher. Zero values work, but for Store and Events.
type Config struct {
	Store  Store
	Events Events
	Logger *slog.Logger
	Meter  Meter // none by default

	Lease     time.Duration // for which leases are granted and renewed; default 30 s
	Interval  time.Duration // between beats; default 5 s
	Poll      time.Duration // between looks for work that nobody announced; default 1 s
	GroupSize int           // most rows in one transaction; default 512

	MaxRunningPerProject int // batches of one project that run at the same time; 0 for no limit
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meter == nil {
		c.Meter = unmetered{}
	}
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.Interval <= 0 {
		c.Interval = 5 * time.Second
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.GroupSize <= 0 {
		c.GroupSize = 512
	}
}

// Dispatcher carries claims, beats and settles to the store, each kind in groups. Its methods are safe for concurrent
// use and work while Run does.
type Dispatcher struct {
	cfg     Config
	ledger  *Ledger
	expired expired
	beats   *group[[]store.Beat, []beatAnswer]
	settles *group[[]store.Settlement, []store.SettleAnswer]
	claims  *claims

	touchMu sync.Mutex
	touched map[int64]struct{}
}

// New returns a dispatcher that works while its Run does.
func New(cfg Config) *Dispatcher {
	cfg.defaults()
	d := &Dispatcher{cfg: cfg, ledger: NewLedger(), touched: map[int64]struct{}{}}
	d.beats = newGroup(cfg.GroupSize, weighBeats, d.applyBeats)
	d.settles = newGroup(cfg.GroupSize, weighSettlements, d.applySettles)
	d.claims = newClaims(d)
	return d
}

// frameUnit is how many bytes of results weigh as much as a lease: so that a group of the default size brings 4 MiB at
// most, unless one call alone brings more.
const frameUnit = 8 << 10

func weighBeats(beats []store.Beat) int {
	weight := len(beats)
	for i := range beats {
		weight += len(beats[i].Results.Frame) / frameUnit
	}
	return weight
}

func weighSettlements(settlements []store.Settlement) int {
	weight := len(settlements)
	for i := range settlements {
		weight += len(settlements[i].Results.Frame) / frameUnit
	}
	return weight
}

// Ledger returns the coordinator's memory of leases.
func (d *Dispatcher) Ledger() *Ledger { return d.ledger }

// Lease returns for how long leases are granted and renewed.
func (d *Dispatcher) Lease() time.Duration { return d.cfg.Lease }

// Interval returns the time between beats.
func (d *Dispatcher) Interval() time.Duration { return d.cfg.Interval }

// Run works until ctx ends. Calls that wait then are answered with an error.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { d.beats.Run(ctx) })
	wg.Go(func() { d.settles.Run(ctx) })
	wg.Go(func() { d.claims.run(ctx) })
	wg.Go(func() { d.touchLoop(ctx) })
	wg.Go(func() { d.timeoutLoop(ctx) })
	wg.Wait()
}

// Claim waits until there is work for the request, or until ctx ends, which is an answer without grants, not an error.
// The lease's time runs from when Claim returns at the latest. ErrSessionEnded.
func (d *Dispatcher) Claim(ctx context.Context, r store.ClaimRequest, kinds []string) ([]store.Grant, error) {
	return d.claims.claim(ctx, r, kinds)
}

// Drain says that sessions are being drained: their claims that wait are answered with nothing. It does not block.
func (d *Dispatcher) Drain(sessions []int64) { d.claims.drain(sessions) }

// Wake says that a job, or with 0 any, may have batches to claim. It does not block.
func (d *Dispatcher) Wake(jobID int64) { d.claims.stir(jobID) }

// beatAnswer is store.BeatAnswer, or that nothing is known since the row stayed locked.
type beatAnswer struct {
	store.BeatAnswer
	unknown bool
}

// BeatAnswer is what became of one beat.
type BeatAnswer struct {
	store.BeatAnswer
	Unknown bool // not renewed this time, but nothing is known to be wrong
}

// Beat renews the leases of one session's message and records what it brings. It blocks until that is committed.
// Leases that this message and the one before it did not name are released. standings says, for each beat, how far its batch
// is.
func (d *Dispatcher) Beat(ctx context.Context, session int64, beats []store.Beat, standings []Standing) ([]BeatAnswer, error) {
	d.touch(session)
	named := make(map[int64]bool, len(beats))
	for i, b := range beats {
		// Before anything that may fail: it is the worker that is judged by it, not the database.
		d.ledger.Progress(b.Lease, standings[i])
		named[b.BatchID] = true
	}
	if forgotten := d.ledger.Named(session, named, d.cfg.Interval); len(forgotten) > 0 {
		ends := make([]store.Settlement, len(forgotten))
		for i, l := range forgotten {
			ends[i] = store.Settlement{Lease: l, End: job.End{
				Kind: job.EndReleased, Message: "two heartbeats in a row did not name it"}}
		}
		if _, err := d.Settle(ctx, ends); err != nil {
			return nil, err
		}
	}
	if len(beats) == 0 {
		return nil, nil
	}
	answers, err := d.beats.Call(ctx, beats)
	if err != nil {
		return nil, err
	}
	out := make([]BeatAnswer, len(answers))
	for i, a := range answers {
		out[i] = BeatAnswer{a.BeatAnswer, a.unknown}
		if !a.unknown && !a.Lost {
			// Workers that do not count what they finished are judged by what is recorded.
			known := standings[i]
			if known.Finished >= 0 {
				known.Finished = max(known.Finished, a.Acknowledged)
			}
			d.ledger.Progress(beats[i].Lease, known)
		}
	}
	return out, nil
}

// skippedTries bounds how often a beat on a locked row is tried before its answer is that nothing is known.
const skippedTries = 3

func (d *Dispatcher) applyBeats(ctx context.Context, queries [][]store.Beat) ([][]beatAnswer, error) {
	var flat []store.Beat
	for _, q := range queries {
		flat = append(flat, q...)
	}
	answers := make([]beatAnswer, len(flat))
	open := make([]int, len(flat))
	for i := range open {
		open[i] = i
	}
	for try := 0; len(open) > 0 && try < skippedTries; try++ {
		beats := make([]store.Beat, len(open))
		for k, i := range open {
			beats[k] = flat[i]
		}
		began := time.Now()
		got, skipped, err := d.cfg.Store.Beat(ctx, d.cfg.Lease, beats)
		if err != nil {
			return nil, err
		}
		d.cfg.Meter.Committed(Beating, len(beats), time.Since(began))
		again := make(map[int]bool, len(skipped))
		for _, k := range skipped {
			again[k] = true
		}
		var next []int
		for k, i := range open {
			if again[k] {
				next = append(next, i)
				continue
			}
			answers[i].BeatAnswer = got[k]
		}
		open = next
	}
	for _, i := range open {
		answers[i].unknown = true
	}
	renewed := 0
	for i, a := range answers {
		switch {
		case a.unknown:
		case a.Lost:
			d.ledger.Drop(flat[i].Lease)
			d.late(flat[i].Lease)
		default:
			renewed++
			d.ledger.Hold(flat[i].Lease, a.JobID, d.cfg.Lease)
			if len(flat[i].Outcomes) > 0 {
				d.cfg.Events.Changed(a.JobID, false)
			}
		}
	}
	d.cfg.Meter.Renewed(renewed)
	out := make([][]beatAnswer, len(queries))
	for i, q := range queries {
		out[i], answers = answers[:len(q):len(q)], answers[len(q):]
	}
	return out, nil
}

// Settle ends attempts and blocks until that is committed. The answers are in the order of the settlements.
func (d *Dispatcher) Settle(ctx context.Context, settlements []store.Settlement) ([]store.SettleAnswer, error) {
	if len(settlements) == 0 {
		return nil, nil
	}
	return d.settles.Call(ctx, settlements)
}

func (d *Dispatcher) applySettles(ctx context.Context, queries [][]store.Settlement) ([][]store.SettleAnswer, error) {
	var flat []store.Settlement
	for _, q := range queries {
		flat = append(flat, q...)
	}
	began := time.Now()
	answers, ended, err := d.cfg.Store.Settle(ctx, flat)
	if err != nil {
		return nil, err
	}
	d.cfg.Meter.Committed(Settling, len(flat), time.Since(began))
	d.settled(flat, store.Settled{Answers: answers, Ended: ended})
	out := make([][]store.SettleAnswer, len(queries))
	for i, q := range queries {
		out[i], answers = answers[:len(q):len(q)], answers[len(q):]
	}
	return out, nil
}

// settled notes what the store has settled.
func (d *Dispatcher) settled(settlements []store.Settlement, s store.Settled) {
	jobs := map[int64]bool{}
	for i, a := range s.Answers {
		if a.Err != nil {
			continue
		}
		d.ended(&settlements[i], a)
		if a.JobID != 0 {
			jobs[a.JobID] = jobs[a.JobID] || offers(a.State)
		}
	}
	d.changed(jobs)
	if len(s.Ended) > 0 {
		d.cfg.Events.AttemptsEnded(s.Ended)
	}
}

// ended forgets the lease of a settlement that was answered.
func (d *Dispatcher) ended(s *store.Settlement, a store.SettleAnswer) {
	if a.Lost {
		d.late(s.Lease)
	} else if a.JobID != 0 {
		d.cfg.Meter.Settled(s.Kind, d.ledger.Look(s.Lease).Held)
	}
	d.ledger.Drop(s.Lease)
}

// SettleAndClaim ends attempts of a session and claims for it, in one transaction where it can, and blocks until that is
// committed. It does not wait for work: there may be no grants, also because the session has ended or is being drained.
// The answers are in the order of the settlements, of which there is at least one.
func (d *Dispatcher) SettleAndClaim(
	ctx context.Context, settlements []store.Settlement, r store.ClaimRequest, kinds []string,
) ([]store.SettleAnswer, []store.Grant, error) {
	return d.claims.settleAndClaim(ctx, settlements, r, kinds)
}

// Returned notes attempts that the store ended: their leases are forgotten, and what is pending again is offered.
func (d *Dispatcher) Returned(ended []store.Ended) {
	if len(ended) == 0 {
		return
	}
	jobs := map[int64]bool{}
	for _, e := range ended {
		d.ledger.Drop(e.Lease)
		jobs[e.JobID] = jobs[e.JobID] || offers(e.State)
	}
	d.changed(jobs)
	d.cfg.Events.AttemptsEnded(ended)
}

// offers reports whether there is something to claim of a batch that is in a state: itself, or its parts.
func offers(s job.BatchState) bool { return s == job.BatchPending || s == job.BatchSplit }

// changed announces jobs of which batches ended; the value says whether something of these can be claimed.
func (d *Dispatcher) changed(jobs map[int64]bool) {
	for id, returned := range jobs {
		if returned {
			d.Wake(id)
		} else {
			d.claims.free(id)
		}
		d.cfg.Events.Changed(id, !returned && !d.ledger.Holds(id))
	}
}

func (d *Dispatcher) touch(session int64) {
	d.touchMu.Lock()
	d.touched[session] = struct{}{}
	d.touchMu.Unlock()
}

// touchLoop writes, in one statement every beat interval, which sessions have beaten.
func (d *Dispatcher) touchLoop(ctx context.Context) {
	ticker := time.NewTicker(d.cfg.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d.touchMu.Lock()
		ids := make([]int64, 0, len(d.touched))
		for id := range d.touched {
			ids = append(ids, id)
		}
		clear(d.touched)
		d.touchMu.Unlock()
		if len(ids) == 0 {
			continue
		}
		drained, err := d.cfg.Store.TouchSessions(ctx, ids)
		if err != nil && !errors.Is(err, context.Canceled) {
			d.cfg.Logger.Warn("note heartbeats of sessions", "error", err)
		}
		if len(drained) > 0 {
			d.cfg.Events.Draining(drained)
		}
	}
}
