package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// MaxValue is the largest Result.Value, in bytes, spaces between its parts not counted. No setting changes it.
const MaxValue = pb.MaxResult

// The codes of findings about a value that cannot be kept.
const (
	valueTooLarge = "RESULT_TOO_LARGE"
	valueNotJSON  = "RESULT_NOT_JSON"
)

// value returns the value of r as it is kept, nil without one, and r as it is reported: an item whose value cannot be kept
// is rejected, since whoever asks for results must not miss one in silence.
func (r Result) value() ([]byte, Result) {
	if len(r.Value) == 0 {
		return nil, r
	}
	var compact bytes.Buffer
	compact.Grow(len(r.Value))
	err := json.Compact(&compact, r.Value)
	switch {
	case err != nil:
		return nil, r.refuse(valueNotJSON, fmt.Sprintf("The result is not JSON: %v.", err))
	case !utf8.Valid(r.Value):
		return nil, r.refuse(valueNotJSON, "The result is not valid UTF-8.")
	case compact.Len() > MaxValue:
		return nil, r.refuse(valueTooLarge, fmt.Sprintf("The result has %d bytes, and %d is the most that is kept of an item.",
			compact.Len(), MaxValue))
	}
	return compact.Bytes(), r
}

// refuse returns r as a rejection that says why, before all else.
func (r Result) refuse(code, message string) Result {
	findings := make([]Finding, 0, len(r.Findings)+1)
	findings = append(findings, Finding{Severity: SeverityError, Code: code, Message: message})
	return Result{Outcome: Rejected, Findings: append(findings, r.Findings...)}
}
