package rest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	out := newOutput(w, h.cfg.IdleTimeout)
	for first := true; ; first = false {
		m, err := stream.Recv()
		switch {
		case first && err != nil && !ended(err):
			writeError(w, err)
			return
		case first:
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Accel-Buffering", "no") // a proxy that collects events delays them
		}
		switch job := m.GetJob(); {
		case ended(err):
			out.event("end", "", []byte("{}"))
		case err != nil:
			out.event("error", "", problem(err))
		case job == nil:
			out.write([]byte(": still there\n\n"))
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

// event writes one event.
func (o *output) event(name, id string, data []byte) {
	if id != "" {
		o.write(fmt.Appendf(nil, "id: %s\n", id))
	}
	o.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data))
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
