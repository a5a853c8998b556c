package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// claims is a session that claims one batch after the other, and does nothing with them.
type claims struct {
	conn    *grpc.ClientConn
	worker  tallymanv1.WorkerServiceClient
	jobs    tallymanv1.JobServiceClient
	session int64
	claimed int
}

// claiming submits a job of so many batches of a kind of their own, and registers who claims them.
func (s *site) claiming(ctx context.Context, batches int) (c claims, err error) {
	if _, err := s.submit(ctx, claimedKind, int64(batches), &tallymanv1.Policy{BatchItems: 1}); err != nil {
		return c, err
	}
	c.conn, err = grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return c, fmt.Errorf("connect: %w", err)
	}
	c.worker, c.jobs = tallymanv1.NewWorkerServiceClient(c.conn), tallymanv1.NewJobServiceClient(c.conn)
	registered, err := c.worker.RegisterWorker(ctx, &tallymanv1.RegisterWorkerRequest{Kinds: []string{claimedKind}, Slots: 1})
	c.session = registered.GetSessionId()
	return c, err
}

// one claims one.
func (c *claims) one(ctx context.Context) error {
	c.claimed++
	granted, err := c.worker.ClaimBatches(ctx, &tallymanv1.ClaimBatchesRequest{
		SessionId: c.session, RequestId: strconv.Itoa(c.claimed), MaxBatches: 1,
	})
	if err != nil {
		return err
	}
	if n := len(granted.GetGrants()); n != 1 {
		return fmt.Errorf("%d batches were granted, want 1", n)
	}
	return nil
}

// end gives everything back and closes the connection. Again it does nothing.
func (c *claims) end(ctx context.Context) error {
	conn := c.conn
	if conn == nil {
		return nil
	}
	c.conn = nil
	_, err := c.worker.DeregisterWorker(ctx, &tallymanv1.DeregisterWorkerRequest{SessionId: c.session})
	return errors.Join(err, conn.Close())
}
