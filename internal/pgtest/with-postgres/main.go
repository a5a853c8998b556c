//go:build unix

// Command with-postgres runs a command with a test PostgreSQL that ends with it:
//
//	go run ./internal/pgtest/with-postgres -- go test ./...
//
// The command finds the server by TALLYMAN_TEST_POSTGRES, so that all test processes share one. Where that variable is
// set already, the command is just run. Signals are passed on; the exit code is the command's, or 1 when there is none.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/tallyman-dev/tallyman/internal/pgtest"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: with-postgres -- COMMAND [ARGUMENT…]")
		os.Exit(64)
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "with-postgres:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run starts a server where none is given, runs the command to its end, and returns its exit code.
func run(args []string) (code int, err error) {
	// Caught from the start: an interrupt while the cluster is being created must not leave it to chance.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	env := os.Environ()
	if os.Getenv(pgtest.Variable) == "" {
		server, startErr := pgtest.Start(context.Background(), pgtest.Config{})
		if startErr != nil {
			return 1, startErr
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		env = append(env, pgtest.Variable+"="+server.DSN("postgres"))
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				fmt.Fprintln(os.Stderr, "with-postgres: pass on signal:", err)
			}
		case err := <-done:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				return 0, err
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return exit.ExitCode(), nil
		}
	}
}
