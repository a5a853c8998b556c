package api

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/dispatch"
	"github.com/tallyman-dev/tallyman/server/ingest"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
	"github.com/tallyman-dev/tallyman/server/watch"
)

// Store is what the services need of the coordinator's store, beside what they reach through the dispatcher.
type Store interface {
	store.Uploads
	store.Sessions
	store.Listings
	store.Workers
	GetJob(ctx context.Context, id int64) (job.Job, error)
	ListJobs(ctx context.Context, f store.JobFilter, page store.Page) ([]job.Job, error)
	StopJob(ctx context.Context, id int64, as job.State, reason string) (job.Job, error)
	PauseJob(ctx context.Context, id int64) (job.Job, error)
	ResumeJob(ctx context.Context, id int64) (job.Job, error)
	RetryJob(ctx context.Context, id int64, r store.Retry) (job.Job, error)
	DeleteJob(ctx context.Context, id int64) error
	EndedJobs(ctx context.Context, f store.EndedFilter, page store.EndedPage) ([]job.Job, error)
	DeleteEndedJobs(ctx context.Context, f store.EndedFilter, limit int) ([]job.Job, error)
	Payloads(ctx context.Context, batches []int64, maxBytes int64) (map[int64][]byte, error)
	Frame(ctx context.Context, lease job.Lease) ([]byte, error)
	ClusterID(ctx context.Context) (string, error)
}

// Services of the health protocol beside that of the whole coordinator.
const (
	HealthDatabase = pb.HealthDatabase // the database is reachable and has the right schema
	HealthSpace    = pb.HealthSpace    // there is space left to write in it
)

// Events tells the rest of the coordinator what the services did. Its methods must not block, but for Current.
type Events interface {
	// Changed says that a job's counters or state have changed; mayEnd that nothing of it seems to be left.
	Changed(jobID int64, mayEnd bool)
	// Stopping says that a job is being stopped.
	Stopping(jobID int64)
	// Paused says that a job is paused.
	Paused(jobID int64)
	// Resumed says that a job may be claimed from again.
	Resumed(jobID int64)
	// Retried says that batches of a job are pending again, or will be.
	Retried(jobID int64)
	// Deleted says that a job is gone.
	Deleted(jobID int64)
	// Draining says that sessions are being drained.
	Draining(sessions []int64)
	// Current returns when the job says what this coordinator's commits of before the call have changed. Unlike the
	// others it blocks, for as long as that takes.
	Current(ctx context.Context, jobID int64)
}

// Meter is told what uploads bring, to be counted. Its methods must not block.
type Meter interface {
	// Received says that bytes of an upload were received.
	Received(bytes int)
	// Ingested says what a group of an upload that was committed added.
	Ingested(items, batches int64)
}

// unmetered counts nothing.
type unmetered struct{}

func (unmetered) Received(int)          {}
func (unmetered) Ingested(int64, int64) {}

// Config of the services. Store, Dispatcher, Hub, Roll, Maps and Events are needed.
type Config struct {
	Store      Store
	Dispatcher *dispatch.Dispatcher
	Hub        *watch.Hub
	Roll       *watch.Roll
	Maps       *watch.Maps
	Events     Events
	Logger     *slog.Logger
	Meter      Meter // none by default

	Grace  time.Duration       // for which leases outlive a stream that the worker's side closed; default 5 s
	Reader ingest.ReaderConfig // limits of what is uploaded

	MaxOpenUploads int           // of one client at once; default 64, below 0 no limit
	UploadTimeout  time.Duration // after which an upload without a stream is abandoned; default 1 h
	Idle           time.Duration // after which a quiet watch shows a sign of life; default 15 s
}

// Services are the three services on one coordinator.
type Services struct {
	cfg      Config
	beating  *Beating
	kinds    *kindCache
	projects projectCache
	uploads  *openUploads
	cluster  atomic.Pointer[string]
	drain    context.Context
}

// clusterID returns the name of the database, which never changes, so that it is read once.
func (s *Services) clusterID(ctx context.Context) (string, error) {
	if known := s.cluster.Load(); known != nil {
		return *known, nil
	}
	id, err := s.cfg.Store.ClusterID(ctx)
	if err == nil {
		s.cluster.Store(&id)
	}
	return id, err
}

// errDraining ends streams when the coordinator shuts down.
var errDraining = errors.New("the coordinator is shutting down")

// New returns the services. When drain ends, streams end with UNAVAILABLE and waiting claims are answered.
func New(drain context.Context, cfg Config) *Services {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meter == nil {
		cfg.Meter = unmetered{}
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 5 * time.Second
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 15 * time.Second
	}
	if cfg.UploadTimeout <= 0 {
		cfg.UploadTimeout = time.Hour
	}
	return &Services{
		cfg: cfg, beating: newBeating(), kinds: newKindCache(), uploads: newOpenUploads(cfg.MaxOpenUploads), drain: drain,
	}
}

// Register adds the services to a gRPC server.
func (s *Services) Register(r grpc.ServiceRegistrar) {
	pb.RegisterJobServiceServer(r, &jobService{Services: s})
	pb.RegisterWorkerServiceServer(r, &workerService{Services: s})
	pb.RegisterAdminServiceServer(r, &adminService{Services: s})
}

// OpenUploads returns how many uploads are open here.
func (s *Services) OpenUploads() int { return s.uploads.count() }

// Beating returns the heartbeat streams that are open here.
func (s *Services) Beating() *Beating { return s.beating }

// draining returns a context that ends with parent, and with cause errDraining when the coordinator shuts down.
func (s *Services) draining(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(s.drain, func() { cancel(errDraining) })
	return ctx, func() { stop(); cancel(nil) }
}

// recv receives the first message of a stream, or returns when ctx ends. The goroutine ends with the stream, which is
// when the call returns.
func recv[M any](ctx context.Context, from func() (M, error)) (M, error) {
	type received struct {
		message M
		err     error
	}
	got := make(chan received, 1)
	go func() {
		m, err := from()
		got <- received{m, err}
	}()
	select {
	case r := <-got:
		return r.message, r.err
	case <-ctx.Done():
		var none M
		return none, context.Cause(ctx)
	}
}

// asJob turns the store's "not found" into a job that is not there.
func asJob(id int64, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return jobNotFound(id)
	}
	return err
}
