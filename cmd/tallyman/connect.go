package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Where a coordinator listens unless told otherwise.
const (
	defaultAddress = "127.0.0.1:7650" // for gRPC
	defaultHTTP    = "127.0.0.1:7651"
)

// connection is a client, and what it needs to live.
type connection struct {
	*client.Client
	address string // empty when the data folder is opened in this process
	embed   *coordinator
}

// live reports whether the coordinator goes on when this process has ended.
func (c *connection) live() bool { return c.address != "" }

func (c *connection) close() error {
	err := c.Client.Close()
	if c.embed != nil {
		err = errors.Join(err, c.embed.close())
	}
	return err
}

// connect finds the coordinator: the one that --server names, else the one that serves the data folder, else the data
// folder itself, opened in this process; without a data folder, the one at the default address.
func (p *program) connect(verb *cobra.Command) (*connection, error) {
	ctx := verb.Context()
	address := p.server
	if address == "" && !folder.Exists(p.data) {
		if verb.Flags().Changed("data") {
			return nil, &exitError{code: exitUnreachable, err: fmt.Errorf(
				"there is nothing in the data folder %s: `tallyman run` or `tallyman serve` make one", p.data)}
		}
		address = defaultAddress
	}
	if address != "" {
		return p.dial(verb, address)
	}
	logger, err := p.logger(p.stderr, slog.LevelWarn)
	if err != nil {
		return nil, err
	}
	embed, err := startEmbedded(ctx, p.data, serverConfig(logger))
	if held, ok := errors.AsType[*folder.HeldError](err); ok && held.Holder.Address != "" {
		return p.dial(verb, held.Holder.Address)
	}
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Conn: embed.conn})
	if err != nil {
		return nil, errors.Join(err, embed.close())
	}
	return &connection{Client: c, embed: embed}, nil
}

func (p *program) dial(verb *cobra.Command, address string) (*connection, error) {
	credential, err := p.credential(verb)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{
		Address: address, TLS: credential.tls, Token: credential.token, TokenInClear: credential.clear,
	})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return &connection{Client: c, address: address}, nil
}

// withConnection runs f with a connection, which it closes.
func (p *program) withConnection(verb *cobra.Command, f func(context.Context, *connection) error) error {
	c, err := p.connect(verb)
	if err != nil {
		return err
	}
	return errors.Join(f(verb.Context(), c), c.close())
}

// jobOrNewest returns the job that a verb is about when none was named, and says so.
func (p *program) jobOrNewest(ctx context.Context, c *connection, jobID int64) (int64, error) {
	if jobID != 0 {
		return jobID, nil
	}
	for job, err := range c.Jobs(ctx, &tallymanv1.ListJobsRequest{PageSize: 1}) {
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(p.stderr, "newest job: %d %s (--job names another)\n", job.GetJobId(), job.GetFileName())
		return job.GetJobId(), nil
	}
	return 0, errors.New("there are no jobs yet: `tallyman run FILE` or `tallyman submit FILE` make one")
}
