package tallymanv1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// report is what LeaseBeat and Settlement have in common.
type report interface {
	GetBatchId() int64
	GetAttempt() int32
	GetFromItem() int32
	GetOutcomes() []*OutcomeRun
	GetFindings() []*ItemFinding
	GetResults() []*ItemResult
}

func (v *violations) report(at string, m report) {
	v.id(at+".batch_id", m.GetBatchId())
	v.within(at+".attempt", int64(m.GetAttempt()), 1, 1<<31-1)
	from, runs, findings := m.GetFromItem(), m.GetOutcomes(), m.GetFindings()
	v.check(from >= 0, at+".from_item", "must not be negative")
	total := int64(from)
	for i, r := range runs {
		v.check(r.GetCount() > 0, fmt.Sprintf("%s.outcomes[%d].count", at, i), "must be at least 1")
		v.check(r.GetOutcome() >= Outcome_OUTCOME_STORED && r.GetOutcome() <= Outcome_OUTCOME_DOCUMENT_MISSING,
			fmt.Sprintf("%s.outcomes[%d].outcome", at, i), "must be one that a handler decides")
		total += int64(r.GetCount())
	}
	v.check(total <= 1<<30, at+".outcomes", "cover more than %d items", 1<<30)
	for i, f := range findings {
		v.check(f.GetFinding() != nil && f.GetPosition() >= from && int64(f.GetPosition()) < total,
			fmt.Sprintf("%s.findings[%d]", at, i), "must belong to an item that outcomes cover")
		s := f.GetFinding().GetSeverity()
		v.check(s == Severity_SEVERITY_WARNING || s == Severity_SEVERITY_ERROR,
			fmt.Sprintf("%s.findings[%d].finding.severity", at, i), "must be warning or error")
	}
	free := int64(from) // the first position that no result is about yet
	for i, r := range m.GetResults() {
		field := fmt.Sprintf("%s.results[%d]", at, i)
		next := int64(r.GetPosition()) + max(int64(r.GetItems()), 1)
		v.check(r.GetItems() >= 0 && int64(r.GetPosition()) >= free && next <= total, field,
			"must belong to items that outcomes cover and that come after those of the result before")
		free = max(free, next)
		v.check(len(r.GetValue()) <= MaxResult, field+".value", "must be at most %d bytes", MaxResult)
		v.check(ValidResult(r.GetValue()), field+".value", "must be JSON in UTF-8 on one line")
	}
}

// ValidResult reports whether a value of an ItemResult is JSON in UTF-8 on one line.
func ValidResult(value []byte) bool {
	return !bytes.ContainsAny(value, "\r\n") && utf8.Valid(value) && json.Valid(value)
}

// Validate reports what is wrong with the beat.
func (m *HeartbeatRequest) Validate() error {
	var v violations
	v.id("session_id", m.GetSessionId())
	v.check(len(m.GetLeases()) <= MaxLeases, "leases", "must be at most %d", MaxLeases)
	v.check(len(m.GetTrouble()) <= MaxTrouble, "trouble", "must be at most %d bytes", MaxTrouble)
	for i, l := range m.GetLeases() {
		v.report(fmt.Sprintf("leases[%d]", i), l)
	}
	return v.err()
}

// Validate reports what is wrong with the request.
func (m *SettleBatchesRequest) Validate() error {
	var v violations
	v.id("session_id", m.GetSessionId())
	v.check(len(m.GetSettlements()) <= MaxSettlements, "settlements", "must be at most %d", MaxSettlements)
	for i, s := range m.GetSettlements() {
		at := fmt.Sprintf("settlements[%d]", i)
		v.report(at, s)
		died := s.GetEnd() == AttemptEnd_ATTEMPT_END_DIED
		v.check(died || s.GetEnd() >= AttemptEnd_ATTEMPT_END_COMPLETED && s.GetEnd() <= AttemptEnd_ATTEMPT_END_CANCELLED,
			at+".end", "must be completed, failed, released, cancelled or died")
		v.check(died || s.GetCrash() == nil, at+".crash", "is for an attempt that died")
		v.check(s.GetCrash().GetSuspect() >= 0, at+".crash.suspect", "must not be negative")
	}
	if c := m.GetClaim(); c != nil {
		v.check(printable(c.GetRequestId(), 64), "claim.request_id", "must be 1 to 64 printable characters without spaces")
		v.within("claim.max_batches", int64(c.GetMaxBatches()), 1, MaxClaim)
	}
	return v.err()
}
