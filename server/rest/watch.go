package rest

import (
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// watch streams a job as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): an event
// "job" with each snapshot, whose id is the revision, comments as signs of life, and "end" after the snapshot of a job that
// has ended, so that a browser does not come back for more. A reader that reconnects says with Last-Event-ID, or with
// after_revision, what it has seen. A job that is deleted meanwhile ends with an event "error".
func (h *handler) watch(w http.ResponseWriter, r *http.Request) {
	id, err := jobOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	request := &pb.WatchJobRequest{JobId: id}
	seen := r.Header.Get("Last-Event-ID")
	if seen == "" {
		seen = r.URL.Query().Get("after_revision")
	}
	if seen != "" {
		if request.AfterRevision, err = strconv.ParseInt(seen, 10, 64); err != nil {
			writeError(w, status.Errorf(codes.InvalidArgument, "after_revision %q is not a number", seen))
			return
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := h.jobs.WatchJob(ctx, request)
	if err != nil {
		writeError(w, err)
		return
	}
	out := newEvents(w, r, h.cfg.IdleTimeout)
	defer out.close()
	for first := true; ; first = false {
		m, err := stream.Recv()
		if first && err != nil && !ended(err) {
			writeError(w, err)
			return
		}
		switch job := m.GetJob(); {
		case ended(err):
			out.event("end", "", []byte("{}"))
		case err != nil:
			out.event("error", "", problem(err))
		case job == nil:
			out.quiet()
		default:
			text, marshalErr := compact(job)
			if marshalErr != nil {
				text = problem(marshalErr)
			}
			out.event("job", strconv.FormatInt(job.GetRevision(), 10), text)
		}
		if out.flush() != nil || err != nil {
			return
		}
	}
}

// sparse leaves out fields without a value: of thousands of jobs they are most of the bytes.
var sparse = protojson.MarshalOptions{UseProtoNames: true}

// watchJobs streams the list of jobs as server-sent events "jobs", each with a WatchJobsResponse whose fields without a value
// are left out. A reader that reconnects is sent the list anew.
func (h *handler) watchJobs(w http.ResponseWriter, r *http.Request) {
	request := &pb.WatchJobsRequest{}
	if err := fill(request, r.URL.Query()); err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := h.jobs.WatchJobs(ctx, request)
	follow(h, w, r, "jobs", stream, err)
}

// watchBatches streams the states of a job's batches as server-sent events "batches", each with a WatchBatchesResponse whose
// fields without a value are left out, and "end" after those of a job that has ended.
func (h *handler) watchBatches(w http.ResponseWriter, r *http.Request) {
	id, err := jobOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stream, err := h.jobs.WatchBatches(ctx, &pb.WatchBatchesRequest{JobId: id})
	follow(h, w, r, "batches", stream, err)
}

// follow sends what a stream brings as events of one name, a response without content as a sign of life. After it
// comes an event "end", or "error".
func follow[M proto.Message](h *handler, w http.ResponseWriter, r *http.Request, name string, stream receiver[M], err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	out := newEvents(w, r, h.cfg.IdleTimeout)
	defer out.close()
	for first := true; ; first = false {
		m, err := stream.Recv()
		switch {
		case err != nil && first && !ended(err):
			writeError(w, err)
			return
		case ended(err):
			out.event("end", "", []byte("{}"))
		case err != nil:
			out.event("error", "", problem(err))
		case proto.Size(m) == 0:
			out.quiet()
		default:
			text, marshalErr := sparse.Marshal(m)
			if marshalErr != nil {
				text = problem(marshalErr)
			}
			out.event(name, "", text)
		}
		if out.flush() != nil || err != nil {
			return
		}
	}
}

// receiver is a stream from the coordinator.
type receiver[M any] interface{ Recv() (M, error) }

// events is an answer of server-sent events, compressed for readers that take that.
type events struct {
	*output
	header http.Header
	packed *gzip.Writer
}

func newEvents(w http.ResponseWriter, r *http.Request, idle time.Duration) *events {
	e := &events{output: newOutput(w, idle), header: w.Header()}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		e.packed = gzip.NewWriter(e.output)
	}
	return e
}

// begin says what comes. Until then the answer may be an error.
func (e *events) begin() {
	if e.wrote || e.err != nil {
		return
	}
	e.header.Set("Content-Type", "text/event-stream")
	e.header.Set("Cache-Control", "no-store")
	e.header.Set("X-Accel-Buffering", "no") // a proxy that collects events delays them
	if e.packed != nil {
		e.header.Set("Content-Encoding", "gzip")
	}
}

// send writes a piece of the answer.
func (e *events) send(p []byte) {
	e.begin()
	if e.packed == nil {
		e.write(p)
		return
	}
	_, _ = e.packed.Write(p) // the output keeps its first error
}

// event writes one event. Its data is one line.
func (e *events) event(name, id string, data []byte) {
	if id != "" {
		e.send(fmt.Appendf(nil, "id: %s\n", id))
	}
	e.send(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data))
}

// close ends what is compressed, so that a reader can tell an end from a cut.
func (e *events) close() {
	if e.packed != nil && e.wrote {
		_ = e.packed.Close() // the output keeps its first error
	}
}

// quiet writes a sign of life.
func (e *events) quiet() { e.send([]byte(": still there\n\n")) }

// flush sends what was written, and returns the first error.
func (e *events) flush() error {
	if e.packed != nil {
		_ = e.packed.Flush() // the output keeps its first error
	}
	return e.output.flush()
}

// output is a response that is written piece by piece. A reader that takes nothing for too long is given up.
type output struct {
	w     http.ResponseWriter
	c     *http.ResponseController
	idle  time.Duration
	err   error
	wrote bool
}

func newOutput(w http.ResponseWriter, idle time.Duration) *output {
	return &output{w: w, c: http.NewResponseController(w), idle: idle}
}

func (o *output) write(p []byte) {
	if o.err != nil {
		return
	}
	if o.err = o.c.SetWriteDeadline(time.Now().Add(o.idle)); o.err == nil {
		o.wrote = true
		_, o.err = o.w.Write(p)
	}
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.write(p); o.err != nil {
		return 0, o.err
	}
	return len(p), nil
}

// flush sends what was written, and returns the first error.
func (o *output) flush() error {
	if o.err == nil {
		o.err = o.c.Flush()
	}
	return o.err
}

// jobOf returns the job that a path names.
func jobOf(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("job_id"), 10, 64)
	if err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "job_id %q is not a number", r.PathValue("job_id"))
	}
	return id, nil
}
