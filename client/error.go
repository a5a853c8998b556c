package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Error is what a coordinator, or the way to it, refused. It unwraps to the gRPC status.
type Error struct {
	Operation string                 // what was tried: "get job 7"
	Address   string                 // of the coordinator; empty for a connection that the client did not make
	Code      codes.Code             // of the status
	Reason    tallymanv1.ErrorReason // unspecified when the coordinator gave none, as when it was not reached
	Message   string                 // for people
	Fields    []Field                // arguments that were wrong
	TriedFor  time.Duration          // how long it was repeated; 0 when it was not
	status    error
}

// Field is an argument that was wrong.
type Field struct {
	Name    string // path in the request: "header.project"
	Problem string // a phrase for people
}

// Error gives the operation, what is wrong and where the coordinator was looked for.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Operation)
	b.WriteString(": ")
	if e.Unreachable() {
		b.WriteString("no coordinator answers")
		if e.Address != "" {
			b.WriteString(" at " + e.Address)
		}
		if e.TriedFor > 0 {
			fmt.Fprintf(&b, " (tried for %v)", e.TriedFor.Round(time.Second))
		}
		b.WriteString(": ")
		b.WriteString(plain(e.Message))
		return b.String()
	}
	b.WriteString(e.Message)
	if e.TriedFor > 0 {
		fmt.Fprintf(&b, " (tried for %v)", e.TriedFor.Round(time.Second))
	}
	for i, f := range e.Fields {
		if i == 0 && e.Message == "" {
			fmt.Fprintf(&b, "%s: %s", f.Name, f.Problem)
			continue
		}
		// The message of the status often is its only violation; once is enough.
		if !strings.Contains(e.Message, f.Problem) {
			fmt.Fprintf(&b, "; %s: %s", f.Name, f.Problem)
		}
	}
	return b.String()
}

// plain takes off what gRPC puts around the reason why an address cannot be reached.
func plain(message string) string {
	if _, reason, ok := strings.Cut(message, "Error while dialing: "); ok {
		return strings.TrimRight(reason, `"`)
	}
	return message
}

// Unwrap returns the status, for status.FromError and status.Code.
func (e *Error) Unwrap() error { return e.status }

// Unreachable reports whether nothing answered, as opposed to a coordinator that refused.
func (e *Error) Unreachable() bool { return e.Code == codes.Unavailable && !e.answered() }

// answered reports whether the status was given by a coordinator.
func (e *Error) answered() bool {
	return e.Reason != tallymanv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// temporary reports whether the same call may succeed later. A call that the caller did not cancel was cancelled on the
// way, or by a coordinator that stops; and what has the code of a defect without a reason was not said by a coordinator,
// but by what lies between, when that broke the call off.
func (e *Error) temporary() bool {
	switch e.Reason {
	case tallymanv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return e.Code == codes.Unavailable || e.Code == codes.Canceled || e.Code == codes.Internal || e.Code == codes.Unknown
	case tallymanv1.ErrorReason_ERROR_REASON_RATE_LIMITED, tallymanv1.ErrorReason_ERROR_REASON_TOO_MANY_UPLOADS,
		tallymanv1.ErrorReason_ERROR_REASON_UPLOAD_INTERRUPTED:
		return true
	default:
		return e.Code == codes.Unavailable || e.Code == codes.Canceled
	}
}

// ReasonOf returns the reason in err's tree, unspecified when there is none.
func ReasonOf(err error) tallymanv1.ErrorReason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return tallymanv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

func newError(operation, address string, err error) *Error {
	s := status.Convert(err)
	e := &Error{
		Operation: operation, Address: address, Code: s.Code(), Reason: tallymanv1.ReasonOf(err), Message: s.Message(),
		status: err,
	}
	for _, detail := range s.Details() {
		if d, ok := detail.(*errdetails.BadRequest); ok {
			for _, v := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, Field{Name: v.GetField(), Problem: v.GetDescription()})
			}
		}
	}
	return e
}
