package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tallyman-dev/tallyman/internal/coordinators"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// maxMessage bounds what is received at once, in bytes: a page of 1,000 batches or findings with long names.
const maxMessage = 64 << 20

// Config says how a coordinator is reached. One of Address and Conn is required; the rest may be zero.
type Config struct {
	// Address is host:port of a coordinator, or those of several that share a database, separated by commas; a host may
	// be a name with several addresses. The client holds on to one of them for as long as that answers, then goes to
	// another. It makes the connection and closes it.
	Address string
	Conn    grpc.ClientConnInterface // used as it is and not closed
	Dial    []grpc.DialOption        // further options for Address; they come after those of TLS and Token

	// TLS encrypts the way to Address; nil does not. Token returns the token that each call shows; nil shows none. It is not
	// sent to another host without encryption, unless TokenInClear says that this is meant. Both are for Address only.
	TLS          *tls.Config
	Token        func() (string, error)
	TokenInClear bool

	RetryFor    time.Duration // how long a call goes on without success; default 1 min
	CallTimeout time.Duration // for one answer, except to uploads and watches; default 30 s
}

// Validate reports the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Address == "" && c.Conn == nil:
		return errors.New("no address and no connection of a coordinator")
	case c.Address != "" && c.Conn != nil:
		return errors.New("both an address and a connection of a coordinator; one is needed")
	case c.RetryFor < 0:
		return fmt.Errorf("retry for %v: must not be negative", c.RetryFor)
	case c.CallTimeout < 0:
		return fmt.Errorf("call timeout %v: must not be negative", c.CallTimeout)
	}
	return nil
}

// Client talks to coordinators. It is safe for concurrent use.
type Client struct {
	config  Config
	close   func() error
	jobs    tallymanv1.JobServiceClient
	admin   tallymanv1.AdminServiceClient
	health  grpc_health_v1.HealthClient
	reached atomic.Bool // something was answered, so that the address is right
}

// New returns a client. It does not wait for a connection: the first call finds out.
func New(config Config) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure client: %w", err)
	}
	if config.RetryFor == 0 {
		config.RetryFor = time.Minute
	}
	if config.CallTimeout == 0 {
		config.CallTimeout = 30 * time.Second
	}
	c := &Client{config: config, close: func() error { return nil }}
	conn := config.Conn
	if conn == nil {
		secure, err := coordinators.Secure(config.Address, config.TLS, config.Token, config.TokenInClear)
		if err != nil {
			return nil, fmt.Errorf("configure client: %w", err)
		}
		made, err := coordinators.Open(config.Address, append(secure, config.Dial...)...)
		if err != nil {
			return nil, fmt.Errorf("configure client: %w", err)
		}
		conn, c.close = made, made.Close
	}
	c.jobs = tallymanv1.NewJobServiceClient(conn)
	c.admin = tallymanv1.NewAdminServiceClient(conn)
	c.health = grpc_health_v1.NewHealthClient(conn)
	return c, nil
}

// Close ends the connection the client made, and with it the calls in progress.
func (c *Client) Close() error { return c.close() }

// Job returns a job as it is now. JOB_NOT_FOUND.
func (c *Client) Job(ctx context.Context, jobID int64) (*tallymanv1.Job, error) {
	response, err := call(ctx, c, fmt.Sprintf("get job %d", jobID), c.jobs.GetJob,
		&tallymanv1.GetJobRequest{JobId: jobID})
	return response.GetJob(), err
}

// Batch returns a batch with its attempts that did not complete. BATCH_NOT_FOUND.
func (c *Client) Batch(ctx context.Context, batchID int64) (*tallymanv1.GetBatchResponse, error) {
	return call(ctx, c, fmt.Sprintf("get batch %d", batchID), c.jobs.GetBatch,
		&tallymanv1.GetBatchRequest{BatchId: batchID})
}

// UploadStatus tells where an upload stands: what a call of Upload with this id would be told. UPLOAD_NOT_FOUND.
func (c *Client) UploadStatus(ctx context.Context, uploadID string) (*tallymanv1.SubmitUploadResponse, error) {
	response, err := call(ctx, c, "get upload "+uploadID, c.jobs.GetUpload,
		&tallymanv1.GetUploadRequest{UploadId: uploadID})
	return response.GetUpload(), err
}

// Cancel stops a job and returns it as it is right after; Watch tells when it has ended. Cancelling a job that has
// ended changes nothing. JOB_NOT_FOUND.
func (c *Client) Cancel(ctx context.Context, jobID int64, reason string) (*tallymanv1.Job, error) {
	response, err := call(ctx, c, fmt.Sprintf("cancel job %d", jobID), c.jobs.CancelJob,
		&tallymanv1.CancelJobRequest{JobId: jobID, Reason: reason})
	return response.GetJob(), err
}

// DrainWorker tells a worker to take no more, to finish or give back what it holds, and to end, and returns its session as
// it is right after. WORKER_NOT_FOUND.
func (c *Client) DrainWorker(ctx context.Context, workerID string) (*tallymanv1.Worker, error) {
	response, err := call(ctx, c, "drain worker "+workerID, c.admin.DrainWorker,
		&tallymanv1.DrainWorkerRequest{WorkerId: workerID})
	return response.GetWorker(), err
}

// Delete removes an ended job with everything the coordinator knows of it; what its handler stored stays. JOB_OPEN,
// JOB_NOT_FOUND.
func (c *Client) Delete(ctx context.Context, jobID int64) error {
	_, err := call(ctx, c, fmt.Sprintf("delete job %d", jobID), c.jobs.DeleteJob,
		&tallymanv1.DeleteJobRequest{JobId: jobID})
	return err
}

// Statistics adds up what ended in a window of time.
func (c *Client) Statistics(ctx context.Context, request *tallymanv1.GetStatisticsRequest) (
	*tallymanv1.GetStatisticsResponse, error,
) {
	return call(ctx, c, "get statistics", c.admin.GetStatistics, request)
}

// Worker returns a worker's newest session, with what it holds and its last attempts that did not complete.
// WORKER_NOT_FOUND.
func (c *Client) Worker(ctx context.Context, workerID string) (*tallymanv1.GetWorkerResponse, error) {
	return call(ctx, c, "get worker "+workerID, c.admin.GetWorker, &tallymanv1.GetWorkerRequest{WorkerId: workerID})
}

// Serving asks the coordinator's health service, once, whether it can reach its database, knows its schema, and has space
// left to write in it.
func (c *Client) Serving(ctx context.Context) (bool, error) { return c.serving(ctx, "") }

// Health is what a coordinator says of itself.
type Health struct {
	Serving  bool // all of it
	Database bool // its database is reachable and has its schema
	Space    bool // and has space left
}

// Health asks the coordinator's health service, once, how it is, and if it does not serve, why.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	if h.Serving, err = c.serving(ctx, ""); err != nil || h.Serving {
		return Health{h.Serving, h.Serving, h.Serving}, err
	}
	if h.Database, err = c.serving(ctx, tallymanv1.HealthDatabase); err != nil {
		return h, err
	}
	h.Space, err = c.serving(ctx, tallymanv1.HealthSpace)
	return h, err
}

// serving asks for one of the health services.
func (c *Client) serving(ctx context.Context, service string) (bool, error) {
	response, err := once(ctx, c, c.health.Check, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return false, newError("check health", c.config.Address, err)
	}
	c.reached.Store(true)
	return response.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING, nil
}
