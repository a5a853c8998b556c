package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/internal/retry"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Items returns the items of a job with some outcomes as they were uploaded, in the order of the upload, from the one
// after the request's after_item on. A cut connection is made anew, and the items go on where they were. An error is the
// last thing returned. The request is not changed. JOB_NOT_FOUND.
func (c *Client) Items(ctx context.Context, request *tallymanv1.ExportItemsRequest) iter.Seq2[*tallymanv1.ExportedItem, error] {
	return export[*tallymanv1.ExportItemsResponse, *tallymanv1.ExportedItem]{
		client: c, operation: fmt.Sprintf("export items of job %d", request.GetJobId()),
		open: func(ctx context.Context, after int64) (receiver[*tallymanv1.ExportItemsResponse], error) {
			next := proto.CloneOf(request)
			next.AfterItem = after
			// A single item may be as large as the coordinator's limit.
			return c.jobs.ExportItems(ctx, next, grpc.MaxCallRecvMsgSize(math.MaxInt32))
		},
		entries: (*tallymanv1.ExportItemsResponse).GetItems,
	}.from(ctx, request.GetAfterItem())
}

// Results returns what handlers made of a job's items, in the order of the upload; see Items for the rest.
func (c *Client) Results(ctx context.Context, request *tallymanv1.ExportResultsRequest) iter.Seq2[*tallymanv1.ExportedResult, error] {
	return export[*tallymanv1.ExportResultsResponse, *tallymanv1.ExportedResult]{
		client: c, operation: fmt.Sprintf("export results of job %d", request.GetJobId()),
		open: func(ctx context.Context, after int64) (receiver[*tallymanv1.ExportResultsResponse], error) {
			next := proto.CloneOf(request)
			next.AfterItem = after
			return c.jobs.ExportResults(ctx, next, grpc.MaxCallRecvMsgSize(maxMessage))
		},
		entries: (*tallymanv1.ExportResultsResponse).GetResults,
	}.from(ctx, request.GetAfterItem())
}

// receiver is a stream of answers.
type receiver[R any] interface{ Recv() (R, error) }

// export is a call that is answered by a stream of entries in the order of their items.
type export[R any, E interface{ GetItem() int64 }] struct {
	client    *Client
	operation string
	open      func(ctx context.Context, after int64) (receiver[R], error)
	entries   func(R) []E
}

// from returns the entries after an item, from as many streams as it takes.
func (x export[R, E]) from(ctx context.Context, after int64) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		again := x.client.repeat(x.operation)
		for at := after; ; {
			done, err := x.stream(ctx, &at, again, yield)
			if done {
				return
			}
			if err := again.after(ctx, err); err != nil {
				var none E
				yield(none, err)
				return
			}
		}
	}
}

// stream yields the entries of one stream and notes how far it came. done says that there are no more, or that nobody
// wants them.
func (x export[R, E]) stream(ctx context.Context, at *int64, again *repetition, yield func(E, error) bool) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(exportSilence, func() { cancel(retry.ErrSilent) })
	defer watchdog.Stop()
	stream, err := x.open(ctx, *at)
	if err != nil {
		return false, retry.Blame(ctx, err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, retry.Blame(ctx, err)
		}
		again.progressed()
		watchdog.Stop() // the caller may take its time
		for _, e := range x.entries(response) {
			*at = e.GetItem()
			if !yield(e, nil) {
				return true, nil
			}
		}
		watchdog.Reset(exportSilence)
	}
}

// exportSilence is how long an export may be without a message: few items among very many are looked for in silence.
const exportSilence = 5 * time.Minute
