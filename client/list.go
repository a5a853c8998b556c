package client

import (
	"context"
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Jobs returns the jobs that a request asks for, newest first, fetching page after page as they are consumed. The
// request's page token is where it begins, its page size how many are fetched at once. An error is the last thing
// returned. The request is not changed.
func (c *Client) Jobs(ctx context.Context, request *tallymanv1.ListJobsRequest) iter.Seq2[*tallymanv1.Job, error] {
	return func(yield func(*tallymanv1.Job, error) bool) {
		next := proto.CloneOf(request)
		pages(yield, func() ([]*tallymanv1.Job, bool, error) {
			page, err := call(ctx, c, "list jobs", c.jobs.ListJobs, next)
			next.PageToken = page.GetNextPageToken()
			return page.GetJobs(), next.PageToken != "", err
		})
	}
}

// Batches returns batches of a job in order, or those of all jobs that hold a document; see Jobs for the rest.
// JOB_NOT_FOUND.
func (c *Client) Batches(ctx context.Context, request *tallymanv1.ListBatchesRequest) iter.Seq2[*tallymanv1.Batch, error] {
	return func(yield func(*tallymanv1.Batch, error) bool) {
		next := proto.CloneOf(request)
		pages(yield, func() ([]*tallymanv1.Batch, bool, error) {
			page, err := call(ctx, c, "list batches", c.jobs.ListBatches, next)
			next.PageToken = page.GetNextPageToken()
			return page.GetBatches(), next.PageToken != "", err
		})
	}
}

// Findings returns findings of a job, by item; see Jobs for the rest. JOB_NOT_FOUND.
func (c *Client) Findings(ctx context.Context, request *tallymanv1.ListFindingsRequest) iter.Seq2[*tallymanv1.Finding, error] {
	return func(yield func(*tallymanv1.Finding, error) bool) {
		next := proto.CloneOf(request)
		operation := fmt.Sprintf("list findings of job %d", request.GetJobId())
		pages(yield, func() ([]*tallymanv1.Finding, bool, error) {
			page, err := call(ctx, c, operation, c.jobs.ListFindings, next)
			next.PageToken = page.GetNextPageToken()
			return page.GetFindings(), next.PageToken != "", err
		})
	}
}

// Workers returns worker sessions, newest first; see Jobs for the rest.
func (c *Client) Workers(ctx context.Context, request *tallymanv1.ListWorkersRequest) iter.Seq2[*tallymanv1.Worker, error] {
	return func(yield func(*tallymanv1.Worker, error) bool) {
		next := proto.CloneOf(request)
		pages(yield, func() ([]*tallymanv1.Worker, bool, error) {
			page, err := call(ctx, c, "list workers", c.admin.ListWorkers, next)
			next.PageToken = page.GetNextPageToken()
			return page.GetWorkers(), next.PageToken != "", err
		})
	}
}

// pages yields what fetch returns, until there is no more or nobody wants it.
func pages[T any](yield func(*T, error) bool, fetch func() (page []*T, more bool, err error)) {
	for {
		page, more, err := fetch()
		if err != nil {
			yield(nil, err)
			return
		}
		for _, entry := range page {
			if !yield(entry, nil) {
				return
			}
		}
		if !more {
			return
		}
	}
}

// Cleanup deletes jobs that ended long enough ago, the first to end first, and returns them as they were: deletion after
// deletion as they are consumed, page_size jobs at a time. With dry_run it only returns them. A call whose answer was
// lost is repeated, in which case jobs may be deleted without being returned.
func (c *Client) Cleanup(ctx context.Context, request *tallymanv1.CleanupJobsRequest) iter.Seq2[*tallymanv1.Job, error] {
	return func(yield func(*tallymanv1.Job, error) bool) {
		next := proto.CloneOf(request)
		pages(yield, func() ([]*tallymanv1.Job, bool, error) {
			page, err := call(ctx, c, "clean up jobs", c.admin.CleanupJobs, next)
			more := page.GetNextPageToken() != ""
			if next.GetDryRun() {
				next.PageToken = page.GetNextPageToken()
			}
			return page.GetJobs(), more, err
		})
	}
}
