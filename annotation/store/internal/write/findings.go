package write

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// The bounds of what is kept of an item's findings.
const (
	maxFindings     = annotation.DefaultMaxFindings
	maxFindingBytes = 2 << 10 // of each of path and message
)

// finding is a finding in the store_items table.
type finding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Path     string `json:"path,omitzero"`
	Message  string `json:"message"`
}

// conclude returns the final answer for an item: with its findings within the bounds, and its outcome by them.
func conclude(findings []annotation.Finding, hidden int) store.Result {
	result := store.Result{Outcome: annotation.Stored}
	if annotation.HasError(findings) {
		// What is left out of a long list are warnings first; what rejects an item comes before what else is lost of it.
		findings = slices.Clone(findings)
		slices.SortStableFunc(findings, func(a, b annotation.Finding) int { return weight(a) - weight(b) })
	}
	if len(findings) > maxFindings+1 { // one more stands for those which the validation left out
		hidden += len(findings) - maxFindings
		findings = findings[:maxFindings]
	}
	for _, f := range findings {
		f.Code = annotation.Code(bounded(string(f.Code)))
		f.Path, f.Message = bounded(f.Path), bounded(f.Message)
		result.Findings = append(result.Findings, f)
	}
	if hidden > 0 {
		result.Findings = append(result.Findings, annotation.Finding{
			Code:     annotation.MoreFindings,
			Severity: annotation.Warning,
			Message:  fmt.Sprintf("Storing this item gave %d more findings, which are not listed.", hidden),
		})
	}
	switch {
	case rejects(result.Findings):
		result.Outcome = annotation.Rejected
	case len(result.Findings) > 0:
		result.Outcome = annotation.StoredWarnings
	}
	return result
}

// rejects reports whether findings reject their item. Of one that is stored some annotations may be lost, which are errors,
// too.
func rejects(findings []annotation.Finding) bool {
	return slices.ContainsFunc(findings, func(f annotation.Finding) bool { return f.Severity == annotation.Error && !loses(f) })
}

func loses(f annotation.Finding) bool {
	return f.Code == store.SpanLost || f.Code == store.ReferenceLost
}

// weight orders findings for a list.
func weight(f annotation.Finding) int {
	switch {
	case f.Severity != annotation.Error:
		return 2
	case loses(f):
		return 1
	default:
		return 0
	}
}

// bounded makes text from outside fit to be stored: bounded, valid UTF-8, without NUL.
func bounded(text string) string {
	if len(text) > maxFindingBytes {
		cut := maxFindingBytes
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// EncodeFindings returns findings as they are stored: a JSON array, empty if there are none.
func EncodeFindings(findings []annotation.Finding) (string, error) {
	if len(findings) == 0 {
		return "", nil
	}
	list := make([]finding, len(findings))
	for i, f := range findings {
		list[i] = finding{string(f.Code), f.Severity.String(), f.Path, f.Message}
	}
	encoded, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("encode findings: %w", err)
	}
	return string(encoded), nil
}

// DecodeFindings reads what EncodeFindings returned.
func DecodeFindings(encoded string) ([]annotation.Finding, error) {
	if encoded == "" {
		return nil, nil
	}
	var list []finding
	if err := json.Unmarshal([]byte(encoded), &list); err != nil {
		return nil, fmt.Errorf("decode findings: %w", err)
	}
	findings := make([]annotation.Finding, len(list))
	for i, f := range list {
		severity := annotation.Warning
		if f.Severity == annotation.Error.String() {
			severity = annotation.Error
		}
		findings[i] = annotation.Finding{Code: annotation.Code(f.Code), Severity: severity, Path: f.Path, Message: f.Message}
	}
	return findings, nil
}
