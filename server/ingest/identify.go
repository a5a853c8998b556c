package ingest

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/payload"
)

// Annotations identifies items of the kind annotations: well-formed, with a document's key, weighed by their
// annotations. An item without a valid key is validated whole, so that its sender learns everything that is wrong.
func Annotations(options annotation.Options) Identify {
	return func(it payload.Item) Identity {
		options := options.For(it.File)
		summary, findings := options.Scan(it.Data)
		id := Identity{Weight: summary.Weight, Annotations: summary.Annotations}
		if !summary.Key.IsZero() {
			id.Document = summary.Key.String()
		}
		if !annotation.HasError(findings) {
			return id
		}
		if onlyIdentity(findings) {
			_, findings = options.Parse(it.Data)
		}
		for _, f := range findings {
			severity := SeverityWarning
			if f.Severity == annotation.Error {
				severity = SeverityError
			}
			id.Findings = append(id.Findings, Finding{
				Code: string(f.Code), Severity: severity, Document: id.Document, Path: f.Path, Message: f.Message,
			})
		}
		return id
	}
}

func onlyIdentity(findings []annotation.Finding) bool {
	for _, f := range findings {
		if f.Code.Group() != annotation.GroupIdentity {
			return false
		}
	}
	return true
}

// CodeInvalidJSON is the code of an item that is no JSON value, for kinds other than annotations.
const CodeInvalidJSON = "INVALID_JSON"

// Values identifies items of any other kind: each is a JSON value of weight 1 without a document.
func Values(it payload.Item) Identity {
	if jsontext.Value(it.Data).IsValid() {
		return Identity{Weight: 1}
	}
	return Identity{Findings: []Finding{{
		Code: CodeInvalidJSON, Severity: SeverityError,
		Message: "this is not one valid JSON value",
	}}}
}
