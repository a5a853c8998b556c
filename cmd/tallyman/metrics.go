package main

import (
	"context"
	"net"
	"net/http"

	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/metrics"
)

// metricsFlag says where the metrics of a worker are.
const metricsFlag = "metrics"

// serveMetrics has a worker that is made of config count, and serves that until it is stopped; nothing without an address. One
// without a host is this host's alone.
func (p *program) serveMetrics(ctx context.Context, address string, config *worker.Config) (stop func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError("--%s %s: must be HOST:PORT or :PORT", metricsFlag, address)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.New(config).Handler())
	at, stop, err := serveAside(ctx, metricsFlag, net.JoinHostPort(host, port), mux)
	if err != nil {
		return nil, err
	}
	config.Logger.Info("metrics are served", "address", at.String())
	return stop, nil
}
