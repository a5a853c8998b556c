package process

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// order is what the worker tells a process in which a handler is isolated, one gob after the other on standard input.
// Exactly one of its fields is set.
type order struct {
	Batch    *worker.Batch // to be handled; the one before is over
	Deadline time.Duration // of the lease, by the clock of the machine; comes first for a batch, and whenever it grows
	Stop     string        // the context is to end; why
	Overlaps *overlaps     // answers the last question
}

// overlaps is the answer of Batch.Overlaps about a job.
type overlaps struct {
	Job     int64
	Yes     bool
	Verdict verdict
}

// notice is what such a process tells the worker, as lines of JSON on standard output. Exactly one of its fields is set.
type notice struct {
	Begin    *int     `json:"begin,omitempty"`    // position of the item that the handler begins with; first that of none
	Results  []result `json:"results,omitempty"`  // for Batch.Report
	Rest     *result  `json:"rest,omitempty"`     // for Batch.ReportRest
	Overlaps *int64   `json:"overlaps,omitempty"` // asks whether this job overlaps the batch's
	Done     *verdict `json:"done,omitempty"`     // the handler has returned
}

// result is a worker.Result, whose value may be anything: that it is JSON is for the worker to see.
type result struct {
	Outcome  worker.Outcome   `json:"outcome"`
	Findings []worker.Finding `json:"findings,omitempty"`
	Value    []byte           `json:"value,omitempty"`
}

func toResult(r worker.Result) result {
	return result{Outcome: r.Outcome, Findings: r.Findings, Value: r.Value}
}

func (r result) result() worker.Result {
	return worker.Result{Outcome: r.Outcome, Findings: r.Findings, Value: r.Value}
}

// verdict is an error in another process.
type verdict struct {
	Error string `json:"error"` // empty for none
	Kind  string `json:"kind"`  // of the error, where that matters
}

// kinds are the errors that mean something to a worker or a handler, by the names that they have between processes.
var kinds = map[string]error{
	"lost": worker.ErrLeaseLost, "cancelled": worker.ErrJobCancelled, "paused": worker.ErrJobPaused, "draining": worker.ErrDraining,
}

const (
	kindPermanent   = "permanent"
	kindUnavailable = "unavailable"
	kindOther       = "other"
)

// tell takes an error to another process.
func tell(err error) verdict {
	if err == nil {
		return verdict{}
	}
	v := verdict{Error: err.Error()}
	switch {
	case worker.IsPermanent(err):
		v.Kind = kindPermanent
	case worker.IsUnavailable(err):
		v.Kind = kindUnavailable
	}
	for kind, known := range kinds {
		if errors.Is(err, known) {
			v.Kind = kind
		}
	}
	return v
}

// told makes an error of what another process tells.
func (v verdict) told() error {
	if v.Error == "" {
		return nil
	}
	err := errors.New(v.Error)
	switch v.Kind {
	case kindPermanent:
		return worker.Permanent(err)
	case kindUnavailable:
		return worker.Unavailable(err)
	}
	if known, ok := kinds[v.Kind]; ok {
		return &toldError{v.Error, known}
	}
	return err
}

// toldError is an error of another process that is a known one here.
type toldError struct {
	text  string
	known error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.known }

// orders writes orders as bytes.
type orders struct {
	encoder *gob.Encoder
	buffer  bytes.Buffer
}

func newOrders() *orders {
	o := &orders{}
	o.encoder = gob.NewEncoder(&o.buffer)
	return o
}

// bytes returns an order for standard input.
func (o *orders) bytes(next order) ([]byte, error) {
	o.buffer.Reset()
	if err := o.encoder.Encode(next); err != nil {
		return nil, fmt.Errorf("write order: %w", err)
	}
	return bytes.Clone(o.buffer.Bytes()), nil
}
