package metrics

import (
	"log/slog"
	"net/http"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/server/api"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/webhook"
)

// namespace is what the names of all metrics of this program begin with.
const namespace = "tallyman"

// Config of Metrics. Store is needed.
type Config struct {
	Store   store.Gauges
	Silent  time.Duration // without a beat after which a session counts as silent
	Version string
	Logger  *slog.Logger
}

// Metrics is what one coordinator has counted. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	figures  *figures
	calls    *grpcprom.ServerMetrics

	commitSize, commitSeconds *prometheus.HistogramVec
	claimSeconds              prometheus.Histogram
	claimed, renewed          prometheus.Counter
	settled                   *prometheus.CounterVec
	batchSeconds              prometheus.Histogram
	expired                   *prometheus.CounterVec
	detection                 prometheus.Histogram
	falselyExpired            prometheus.Counter
	attempts, jobs            *prometheus.CounterVec
	webhooks                  *prometheus.CounterVec
	ingestBytes               prometheus.Counter
	ingestItems               prometheus.Counter
	ingestBatches             prometheus.Counter
}

var (
	_ dispatch.Meter = (*Metrics)(nil)
	_ api.Meter      = (*Metrics)(nil)
	_ webhook.Meter  = (*Metrics)(nil)
)

// New returns metrics that have counted nothing.
func New(cfg Config) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), figures: newFigures(cfg), calls: grpcprom.NewServerMetrics()}
	m.commitSize = m.histograms("commit_size", "Claims, leases of beats, or settlements that were committed together.",
		prometheus.ExponentialBuckets(1, 2, 11), "operation")
	m.commitSeconds = m.histograms("commit_seconds", "Duration of the transactions in which claims, beats and settlements are committed together.",
		durations(0.0005, 16), "operation")
	m.claimSeconds = m.histogram("claim_seconds", "Time from a claim to its grants, the wait for work included.", durations(0.0005, 20))
	m.claimed = m.counter("claims_total", "Batches granted to workers.")
	m.renewed = m.counter("renewals_total", "Leases renewed by heartbeats.")
	m.settled = m.counters("settles_total", "Attempts that workers settled, by how they ended.", "end")
	m.batchSeconds = m.histogram("batch_duration_seconds",
		"Time from the grant of a batch to its settlement as completed or failed, of those that this coordinator granted.", durations(0.004, 24))
	m.expired = m.counters("expiries_total",
		"Attempts that the coordinator ended since their workers did not: they fell silent (lost), or their connections broke and they did not come back (died).",
		"end")
	m.detection = m.histogram("detection_seconds",
		"Time from the last sign of life for a lease to its end by the coordinator.", durations(0.25, 12))
	m.falselyExpired = m.counter("false_expiries_total",
		"Attempts that this coordinator ended since their workers were silent, and that these came back to.")
	m.attempts = m.counters("attempts_ended_total", "Attempts that ended otherwise than by completing, by how they ended.", "end")
	m.jobs = m.counters("jobs_ended_total", "Jobs that this coordinator ended, by the state in which they did.", "state")
	m.ingestBytes = m.counter("ingest_bytes_total", "Bytes of uploads received.")
	m.ingestItems = m.counter("ingest_items_total", "Items of uploads committed, rejected ones included.")
	m.ingestBatches = m.counter("ingest_batches_total", "Batches cut and committed.")
	m.webhooks = m.counters("webhook_deliveries_total",
		"Tries to deliver by webhook, by what became of them: delivered, failed, and of the failed those after which it was given up.", "result")
	for _, result := range []string{"delivered", "failed", "given_up"} {
		m.webhooks.WithLabelValues(result)
	}
	// What may happen is there before it does, so that a rate sees the first time.
	for _, o := range []dispatch.Operation{dispatch.Claiming, dispatch.Beating, dispatch.Settling} {
		m.commitSize.WithLabelValues(string(o))
		m.commitSeconds.WithLabelValues(string(o))
	}
	for _, end := range []job.EndKind{job.EndCompleted, job.EndFailed, job.EndReleased, job.EndCancelled, job.EndDied} {
		m.settled.WithLabelValues(string(end))
	}
	for _, end := range []job.EndKind{job.EndDied, job.EndLost} {
		m.expired.WithLabelValues(string(end))
	}
	for _, end := range []job.EndKind{job.EndFailed, job.EndReleased, job.EndCancelled, job.EndDied, job.EndLost} {
		m.attempts.WithLabelValues(string(end))
	}
	for _, state := range []job.State{job.Succeeded, job.CompletedWithErrors, job.Failed, job.Cancelled} {
		m.jobs.WithLabelValues(string(state))
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1: the version of the program.", ConstLabels: prometheus.Labels{"version": cfg.Version},
	})
	info.Set(1)
	m.registry.MustRegister(m.figures, m.calls, info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// durations are buckets that double from the first, in seconds.
func durations(first float64, n int) []float64 { return prometheus.ExponentialBuckets(first, 2, n) }

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// Gauge adds one whose value is read whenever somebody looks. It must not block.
func (m *Metrics) Gauge(name, help string, value func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help},
		func() float64 { return float64(value()) }))
}

// ServerOptions count the calls of a gRPC server. They come before what changes errors.
func (m *Metrics) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(m.calls.UnaryServerInterceptor()), grpc.ChainStreamInterceptor(m.calls.StreamServerInterceptor()),
	}
}

// Handler serves all of it. A scrape that asks the database while it does not answer gets the rest.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesMost, ErrorHandling: promhttp.ContinueOnError})
}

// scrapesMost bounds the requests that are answered at the same time.
const scrapesMost = 4

// Committed implements dispatch.Meter.
func (m *Metrics) Committed(o dispatch.Operation, size int, took time.Duration) {
	m.commitSize.WithLabelValues(string(o)).Observe(float64(size))
	m.commitSeconds.WithLabelValues(string(o)).Observe(took.Seconds())
}

// Claimed implements dispatch.Meter.
func (m *Metrics) Claimed(batches int, waited time.Duration) {
	m.claimed.Add(float64(batches))
	m.claimSeconds.Observe(waited.Seconds())
}

// Renewed implements dispatch.Meter.
func (m *Metrics) Renewed(leases int) { m.renewed.Add(float64(leases)) }

// Settled implements dispatch.Meter.
func (m *Metrics) Settled(end job.EndKind, took time.Duration) {
	m.settled.WithLabelValues(string(end)).Inc()
	if took >= 0 && (end == job.EndCompleted || end == job.EndFailed) {
		m.batchSeconds.Observe(took.Seconds())
	}
}

// Expired implements dispatch.Meter.
func (m *Metrics) Expired(end job.EndKind, unheard time.Duration) {
	m.expired.WithLabelValues(string(end)).Inc()
	if unheard >= 0 {
		m.detection.Observe(unheard.Seconds())
	}
}

// FalselyExpired implements dispatch.Meter.
func (m *Metrics) FalselyExpired() { m.falselyExpired.Inc() }

// AttemptEnded counts an attempt that did not complete.
func (m *Metrics) AttemptEnded(end job.EndKind) { m.attempts.WithLabelValues(string(end)).Inc() }

// JobEnded counts a job that this coordinator ended.
func (m *Metrics) JobEnded(state job.State) { m.jobs.WithLabelValues(string(state)).Inc() }

// Delivered implements webhook.Meter.
func (m *Metrics) Delivered(result string) { m.webhooks.WithLabelValues(result).Inc() }

// Figures returns what the database is at, as it was last shown or as it is now; false while that is not known.
func (m *Metrics) Figures() (store.Figures, bool) {
	f, read := m.figures.current()
	return f, !read.IsZero()
}

// Received implements api.Meter.
func (m *Metrics) Received(bytes int) { m.ingestBytes.Add(float64(bytes)) }

// Ingested implements api.Meter.
func (m *Metrics) Ingested(items, batches int64) {
	m.ingestItems.Add(float64(max(items, 0)))
	m.ingestBatches.Add(float64(batches))
}
