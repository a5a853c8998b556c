package metrics

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Window is over what the crash rate is taken.
const Window = time.Hour

// The figures are read at most once in pace, and seldom enough for the database to be busy with them for no more than a
// twentieth of the time. One reading that takes too long is given up.
const (
	pace       = 5 * time.Second
	share      = 20
	readMost   = 5 * time.Second
	kindsShown = 50
	otherKinds = "(others)"
)

// figures shows what is read of the database.
type figures struct {
	cfg Config

	mu      sync.Mutex // held while they are read
	last    store.Figures
	read    time.Time // when last was; zero before
	next    time.Time // when they may be read again
	failing bool

	jobs, pending, running, oldest, workers, sessions *prometheus.Desc
	ended, crashed, rate                              *prometheus.Desc
	dead, snapshot, age                               *prometheus.Desc
	connections, waits, waited                        *prometheus.Desc
}

var _ prometheus.Collector = (*figures)(nil)

func newFigures(cfg Config) *figures {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &figures{
		cfg:         cfg,
		jobs:        desc("jobs", "Open jobs, by state.", "state"),
		pending:     desc("batches_pending", "Batches of open jobs that wait for a worker, by kind.", "kind"),
		running:     desc("batches_running", "Batches that workers hold, by kind.", "kind"),
		oldest:      desc("oldest_pending_seconds", "For how long that batch of a running job has waited which has waited longest, by kind; 0 when none waits.", "kind"),
		workers:     desc("workers", "Workers that serve a kind, neither silent nor being drained.", "kind"),
		sessions:    desc("sessions", "Workers, by state: alive or silent; of those alive, draining, and lacking what they need.", "state"),
		ended:       desc("recent_batches", "Batches that ended in the last hour, by state, as stats says.", "state"),
		crashed:     desc("recent_batches_crashed", "Of the batches that ended in the last hour, cancelled ones apart, those with at least one attempt that died.", "window"),
		rate:        desc("crash_rate", "Share of the batches that ended in the last hour, cancelled ones apart, with at least one attempt that died, as health says.", "window"),
		dead:        desc("database_dead_tuples", "Dead rows, by table, as PostgreSQL estimates.", "table"),
		snapshot:    desc("database_oldest_snapshot_seconds", "Age of the oldest snapshot that keeps dead rows from being removed."),
		age:         desc("figures_age_seconds", "Age of what was last read of the database: jobs, batches, workers, crash rate."),
		connections: desc("database_connections", "Connections of this coordinator to its database, by state: used, idle, and the most there may be.", "state"),
		waits:       desc("database_connection_waits_total", "Calls that waited for a connection."),
		waited:      desc("database_connection_wait_seconds_total", "Time that calls waited for a connection."),
	}
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		f.jobs, f.pending, f.running, f.oldest, f.workers, f.sessions, f.ended, f.crashed, f.rate, f.dead, f.snapshot, f.age,
		f.connections, f.waits, f.waited,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	p := f.cfg.Store.Pool()
	gauge(f.connections, float64(p.InUse), "used")
	gauge(f.connections, float64(p.Idle), "idle")
	gauge(f.connections, float64(p.Max), "most")
	out <- prometheus.MustNewConstMetric(f.waits, prometheus.CounterValue, float64(p.Waits))
	out <- prometheus.MustNewConstMetric(f.waited, prometheus.CounterValue, p.Waited.Seconds())

	now, read := f.current()
	if read.IsZero() {
		return // nothing is known, which is not nothing
	}
	gauge(f.age, time.Since(read).Seconds())
	for _, state := range []job.State{job.Running, job.Paused, job.Cancelling} {
		gauge(f.jobs, float64(now.Jobs[state]), string(state))
	}
	for kind, k := range bounded(now.Kinds) {
		gauge(f.pending, float64(k.Pending), kind)
		gauge(f.running, float64(k.Running), kind)
		gauge(f.oldest, k.Oldest.Seconds(), kind)
		gauge(f.workers, float64(k.Sessions), kind)
	}
	gauge(f.sessions, float64(now.Sessions.Alive), "alive")
	gauge(f.sessions, float64(now.Sessions.Silent), "silent")
	gauge(f.sessions, float64(now.Sessions.Draining), "draining")
	gauge(f.sessions, float64(now.Sessions.Lacking), "lacking")
	for _, state := range []job.BatchState{job.BatchCompleted, job.BatchFailed, job.BatchCrashed, job.BatchCancelled} {
		gauge(f.ended, float64(now.Ended[state]), state.String())
	}
	gauge(f.crashed, float64(now.Crashed), "1h")
	gauge(f.rate, now.CrashRate(), "1h")
	for table, n := range now.Database.DeadTuples {
		gauge(f.dead, float64(n), table)
	}
	gauge(f.snapshot, now.Database.OldestSnapshot.Seconds())
}

// current returns the figures, read anew when it is time for that, and when they were read.
func (f *figures) current() (store.Figures, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.next) {
		return f.last, f.read
	}
	ctx, cancel := context.WithTimeout(context.Background(), readMost)
	defer cancel()
	began := time.Now()
	got, err := f.cfg.Store.Figures(ctx, store.FiguresQuery{Window: Window, Silent: f.cfg.Silent, Floors: f.last.Floors})
	f.next = time.Now().Add(max(pace, share*time.Since(began)))
	if err != nil {
		if !f.failing {
			f.cfg.Logger.Warn("read figures of the database", "error", err)
		}
		f.failing = true
		return f.last, f.read
	}
	f.failing, f.last, f.read = false, got, time.Now()
	return got, f.read
}

// bounded returns the figures of so many kinds that a client who thinks up new ones does no harm, and those of all others
// together. Those that are served come first.
func bounded(kinds map[string]store.KindFigures) map[string]store.KindFigures {
	if len(kinds) <= kindsShown {
		return kinds
	}
	names := slices.SortedFunc(maps.Keys(kinds), func(a, b string) int {
		return cmp.Or(cmp.Compare(kinds[b].Sessions, kinds[a].Sessions), cmp.Compare(a, b))
	})
	shown := make(map[string]store.KindFigures, kindsShown+1)
	for i, name := range names {
		if i < kindsShown {
			shown[name] = kinds[name]
			continue
		}
		sum, k := shown[otherKinds], kinds[name]
		sum.Pending += k.Pending
		sum.Running += k.Running
		sum.Sessions += k.Sessions
		sum.Oldest = max(sum.Oldest, k.Oldest)
		shown[otherKinds] = sum
	}
	return shown
}
