package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Confinement returns interceptors, to follow those of ServerOptions, that keep callers to what is theirs: a job, batch or
// upload of a project that the caller does not see is as if it did not exist, and so is a session that somebody else
// registered. They know by the names of a message's fields what it is about, so that a new call is looked at as well.
func (s *Services) Confinement() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := s.confine(ctx, info.FullMethod, request); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &confinedStream{stream, s, info.FullMethod})
		}),
	}
}

// confinedStream looks at each message that the client sends.
type confinedStream struct {
	grpc.ServerStream
	services *Services
	method   string
}

// RecvMsg implements grpc.ServerStream.
func (c *confinedStream) RecvMsg(m any) error {
	if err := c.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return c.services.confine(c.Context(), c.method, m)
}

// confine refuses a message that is about what is not the caller's.
func (s *Services) confine(ctx context.Context, method string, message any) error {
	who := access.By(ctx)
	if m, ok := message.(interface{ GetSessionId() int64 }); ok && who.Key != "" && who.Key != access.Coordinator {
		return s.ownSession(ctx, who, m.GetSessionId())
	}
	if !who.Confined() {
		return nil
	}
	return s.confineToProjects(ctx, who, access.Of(method), message)
}

func (s *Services) confineToProjects(ctx context.Context, who access.Identity, rule access.Rule, message any) error {
	named := false
	if m, ok := message.(*pb.SubmitUploadRequest); ok {
		if h := m.GetHeader(); h != nil && !who.Sees(h.GetProject()) {
			return fail(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
				"%s may not upload to project %q, but to %s", who.Name, h.GetProject(), strings.Join(who.Projects, ", "))
		}
		return nil // its other messages say nothing that is anybody's
	}
	if m, ok := message.(interface{ GetUploadId() string }); ok {
		named = true
		up, err := s.cfg.Store.GetUpload(ctx, m.GetUploadId())
		if errors.Is(err, store.ErrNotFound) {
			return uploadNotFound(m.GetUploadId())
		}
		if err == nil {
			err = s.seesJob(ctx, who, up.JobID, uploadNotFound(m.GetUploadId()))
		}
		if err != nil {
			return err
		}
	}
	job, byJob := message.(interface{ GetJobId() int64 })
	if m, ok := message.(interface{ GetBatchId() int64 }); ok && !byJob { // otherwise it narrows what is of the job
		named = true
		if err := s.seesBatch(ctx, who, m.GetBatchId()); err != nil {
			return err
		}
	}
	if byJob && job.GetJobId() != 0 {
		named = true
		unknown := error(jobNotFound(job.GetJobId()))
		if _, get := message.(*pb.GetJobRequest); get {
			unknown = s.unknownJob(ctx, job.GetJobId())
		}
		if err := s.seesJob(ctx, who, job.GetJobId(), unknown); err != nil {
			return err
		}
	}
	if rule.Reach == access.Named && !named {
		return fail(codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_PERMISSION_DENIED,
			"%s is confined to projects, and it cannot be told whose this is", who.Name)
	}
	return nil
}

// seesJob returns the error unknown when a job is of a project that the caller does not see. Of one that does not exist the
// handler says so.
func (s *Services) seesJob(ctx context.Context, who access.Identity, id int64, unknown error) error {
	project, err := s.projects.of(ctx, s.cfg.Store, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && !who.Sees(project) {
		return unknown
	}
	return err
}

func (s *Services) seesBatch(ctx context.Context, who access.Identity, id int64) error {
	b, _, err := s.cfg.Store.GetBatch(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return batchNotFound(id)
	}
	if err != nil {
		return err
	}
	return s.seesJob(ctx, who, b.JobID, batchNotFound(id))
}

// seen leaves of a list of batches those of jobs that the caller sees.
func (s *Services) seen(ctx context.Context, rows []store.BatchRow) ([]store.BatchRow, error) {
	who := access.By(ctx)
	if !who.Confined() {
		return rows, nil
	}
	var kept []store.BatchRow
	for i := range rows {
		project, err := s.projects.of(ctx, s.cfg.Store, rows[i].JobID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err == nil && who.Sees(project) {
			kept = append(kept, rows[i])
		}
	}
	return kept, nil
}

// projectCache remembers the projects of jobs, which never change, so that a call need not read its job twice. Safe for
// concurrent use.
type projectCache struct {
	mu       sync.Mutex
	projects map[int64]string
}

// projectsKept bounds the cache; when it is full it starts anew.
const projectsKept = 100_000

func (c *projectCache) of(ctx context.Context, st Store, id int64) (string, error) {
	c.mu.Lock()
	project, ok := c.projects[id]
	c.mu.Unlock()
	if ok {
		return project, nil
	}
	j, err := st.GetJob(ctx, id)
	if err != nil {
		return "", err
	}
	c.note(id, j.Project)
	return j.Project, nil
}

func (c *projectCache) note(id int64, project string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.projects) >= projectsKept || c.projects == nil {
		c.projects = map[int64]string{}
	}
	c.projects[id] = project
}

// seen leaves of jobs, which may be gone, those of which it is known that the caller saw them.
func (c *projectCache) seen(who access.Identity, jobs []int64) []int64 {
	if !who.Confined() {
		return jobs
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(jobs), func(id int64) bool {
		project, ok := c.projects[id]
		return !ok || !who.Sees(project)
	})
}

// seenAttempts leaves of a list of attempts those at batches that the caller sees.
func (s *Services) seenAttempts(ctx context.Context, attempts []store.Attempt) ([]store.Attempt, error) {
	who := access.By(ctx)
	if !who.Confined() {
		return attempts, nil
	}
	var kept []store.Attempt
	var unseen *apiError
	for i := range attempts {
		err := s.seesBatch(ctx, who, attempts[i].BatchID)
		if err != nil && !errors.As(err, &unseen) {
			return nil, err
		}
		if err == nil {
			kept = append(kept, attempts[i])
		}
	}
	return kept, nil
}
