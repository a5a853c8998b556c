package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/store"
)

// lockWait is how long another command may need a data folder, before this one gives up.
const lockWait = 10 * time.Second

// coordinator is a server in this process, with the data folder it serves if that is its database.
type coordinator struct {
	server *server.Server
	conn   *grpc.ClientConn // in process
	lock   *folder.Lock     // nil without a data folder
	stop   context.CancelFunc
	ended  chan struct{}
	err    error // why it ended; to be read after that
}

// startEmbedded serves a data folder. Without listen only this process is served.
func startEmbedded(ctx context.Context, dir string, config server.Config) (*coordinator, error) {
	lock, err := folder.Acquire(ctx, dir, lockWait)
	if err != nil {
		return nil, err
	}
	config.Database, config.Migrate = folder.DSN(dir, folder.Database), true
	config.Reader.SpoolDir = cmp.Or(config.Reader.SpoolDir, dir)
	c, err := startCoordinator(ctx, config)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	c.lock = lock
	if address := c.server.Addr(); address != "" {
		if err := lock.Publish(address); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// startCoordinator serves a database until it is closed; the end of ctx does not end it, so that what works with it can
// end first.
func startCoordinator(ctx context.Context, config server.Config) (*coordinator, error) {
	s, err := server.Open(ctx, config)
	if errors.Is(err, store.ErrSchema) {
		return nil, fmt.Errorf("%w; `tallyman migrate --database …` brings an older one up to date", err)
	}
	if err != nil {
		return nil, err
	}
	conn, err := s.Dial()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &coordinator{server: s, conn: conn, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = s.Run(serving)
	}()
	return c, nil
}

// workerID names the worker in this process. A data folder has one at a time: under the same name, the next process that
// serves the folder takes over at once what one that was killed had held. With a database of its own it is drawn.
func (c *coordinator) workerID() string {
	if c.lock == nil {
		return ""
	}
	return "embedded"
}

// close stops serving, for which the server's drain timeout is the bound, and gives the data folder back.
func (c *coordinator) close() error {
	err := c.conn.Close()
	c.stop()
	<-c.ended
	err = errors.Join(c.err, err)
	if c.lock != nil {
		err = errors.Join(err, c.lock.Release())
	}
	if err != nil {
		return fmt.Errorf("stop the coordinator: %w", err)
	}
	return nil
}

// serverConfig returns what is the same for every coordinator this program starts.
func serverConfig(logger *slog.Logger) server.Config {
	return server.Config{Logger: logger, Version: programVersion()}
}
