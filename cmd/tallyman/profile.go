package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spf13/cobra"
)

// profileFlag names where profiles of a process can be fetched.
const profileFlag = "pprof"

// profileShutdown bounds the end of answers under way: a profile takes as long as its reader asks for.
const profileShutdown = time.Second

// profiled makes a verb that runs for long serve its profiles while it runs, where it is told to.
func (p *program) profiled(verb *cobra.Command) *cobra.Command {
	var address string
	verb.Flags().StringVar(&address, profileFlag, "", "loopback address at which profiles of this process can be fetched by\n"+
		"go tool pprof http://ADDRESS/debug/pprof/profile (default: none)")
	run := verb.RunE
	verb.RunE = func(verb *cobra.Command, args []string) error {
		if address == "" {
			return run(verb, args)
		}
		stop, err := serveProfiles(verb.Context(), address)
		if err != nil {
			return err
		}
		return errors.Join(run(verb, args), stop())
	}
	return verb
}

// serveProfiles serves profiles until it is stopped. They tell of what is in memory, so nobody but this host may ask.
func serveProfiles(ctx context.Context, address string) (stop func() error, err error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usageError("--%s %s: must be HOST:PORT", profileFlag, address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usageError("--%s %s: profiles show what is in memory, so the address must be of this host alone, such as 127.0.0.1:6060",
			profileFlag, address)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	_, stop, err = serveAside(ctx, profileFlag, address, mux)
	return stop, err
}

// serveAside serves something beside what a verb does until it is stopped, and returns where. flag is what says so.
func serveAside(ctx context.Context, flag, address string, handler http.Handler) (at net.Addr, stop func() error, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("--%s: %w", flag, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr(), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), profileShutdown)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close() //nolint:errcheck // whoever still reads does without the end
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve --%s: %w", flag, err)
		}
		return nil
	}, nil
}
