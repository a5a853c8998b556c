// Package metrics shows what a worker does in the form that Prometheus reads. There is no global registry, and no label says
// which job, batch, document or project something was about.
package metrics

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tallyman-dev/tallyman/worker"
)

// Metrics is what a worker has counted. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	batches  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	busy     *prometheus.GaugeVec
}

var _ worker.Meter = (*Metrics)(nil)

// New returns metrics of a worker that is made of config, which it changes to count for them.
func New(config *worker.Config) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallyman_worker_batches_total",
			Help: "Batches whose handlers have returned, by kind and by how the attempt ended; lost when the lease was.",
		}, []string{"kind", "end"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallyman_worker_batch_seconds", Help: "Time that handlers took for a batch.",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 24),
		}, []string{"kind"}),
		busy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tallyman_worker_busy", Help: "Batches that are being handled.",
		}, []string{"kind"}),
	}
	slots := prometheus.NewGauge(prometheus.GaugeOpts{Name: "tallyman_worker_slots", Help: "Batches that may be handled at a time."})
	slots.Set(float64(config.SlotsOrDefault()))
	m.registry.MustRegister(m.batches, m.seconds, m.busy, slots, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, kind := range slices.Sorted(maps.Keys(config.Handlers)) {
		m.seconds.WithLabelValues(kind)
		m.busy.WithLabelValues(kind)
		for _, end := range worker.Ends() {
			m.batches.WithLabelValues(kind, end)
		}
	}
	config.Meter = m
	return m
}

// Handler serves them.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Began implements worker.Meter.
func (m *Metrics) Began(kind string) { m.busy.WithLabelValues(kind).Inc() }

// Ended implements worker.Meter.
func (m *Metrics) Ended(kind, end string, took time.Duration) {
	m.busy.WithLabelValues(kind).Dec()
	m.batches.WithLabelValues(kind, end).Inc()
	m.seconds.WithLabelValues(kind).Observe(took.Seconds())
}
