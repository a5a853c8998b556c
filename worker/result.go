package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/payload"
	pb "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// Outcome is how an item ended, as far as a handler decides it. The numbers are those of the protocol's Outcome.
type Outcome int32

// The outcomes that a handler decides.
const (
	Stored             = Outcome(pb.Outcome_OUTCOME_STORED)               // stored, nothing to say
	StoredWithWarnings = Outcome(pb.Outcome_OUTCOME_STORED_WITH_WARNINGS) // stored, with at least one finding
	Rejected           = Outcome(pb.Outcome_OUTCOME_REJECTED)             // invalid
	Skipped            = Outcome(pb.Outcome_OUTCOME_SKIPPED)              // not stored because the submitter asked so
	DocumentMissing    = Outcome(pb.Outcome_OUTCOME_DOCUMENT_MISSING)     // not known where it should come from
)

func (o Outcome) valid() bool { return o >= Stored && o <= DocumentMissing }

// String returns the outcome as people write it: "stored with warnings".
func (o Outcome) String() string {
	name, ok := pb.Outcome_name[int32(o)]
	if !ok {
		return fmt.Sprintf("outcome %d", int32(o))
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "OUTCOME_"), "_", " "))
}

// Severity says how bad a finding is. The numbers are those of the protocol's Severity.
type Severity int32

// The severities.
const (
	SeverityWarning = Severity(pb.Severity_SEVERITY_WARNING) // stored differently from what was written, or looks wrong
	SeverityError   = Severity(pb.Severity_SEVERITY_ERROR)   // not stored
)

// Finding is a warning or an error about an item. Which item it is, and where that lies in its file, the worker adds.
type Finding struct {
	Severity Severity
	Code     string // stable, such as SPAN_OUT_OF_RANGE; at most 128 bytes
	Path     string // JSON path of the entry inside the item, empty for the item as a whole; at most 2 KiB
	Message  string // a sentence for people; at most 2 KiB
}

// Result is what became of an item. What exceeds the bounds of its findings, or 1000 of them, is cut off.
type Result struct {
	Outcome  Outcome
	Findings []Finding

	// Value is what the handler made of the item, to be kept with it and given back by `tallyman results`: any JSON of at
	// most MaxValue bytes, or empty for nothing. It is copied. An item whose value is larger, or is not JSON, is rejected,
	// with a finding RESULT_TOO_LARGE or RESULT_NOT_JSON.
	Value json.RawMessage
}

// The bounds of what is told about one item.
const (
	maxFindings     = 1000
	maxFindingBytes = 512 << 10 // of all findings of an item
	maxCode         = 128
	maxPath         = 2 << 10
	maxSentence     = 2 << 10
)

// moreFindings is the code of a finding that stands for those that were cut off.
const moreFindings = "MORE_FINDINGS"

// wire puts the findings of an item into the form of the protocol. It returns their size, in bytes, too.
func wire(findings []Finding, it *payload.Item, position int) (out []*pb.ItemFinding, size int) {
	for i, f := range findings {
		m := itemFinding(f, it, position)
		n := proto.Size(m) + findingOverhead
		if i >= maxFindings || size+n > maxFindingBytes {
			m = itemFinding(rest(findings[i:]), it, position)
			return append(out, m), size + proto.Size(m) + findingOverhead
		}
		out, size = append(out, m), size+n
	}
	return out, size
}

// findingOverhead is the most that the framing of a message inside another takes, in bytes.
const findingOverhead = 6

func itemFinding(f Finding, it *payload.Item, position int) *pb.ItemFinding {
	severity := pb.Severity(f.Severity)
	if severity != pb.Severity_SEVERITY_WARNING {
		severity = pb.Severity_SEVERITY_ERROR
	}
	return &pb.ItemFinding{Position: int32(position), Finding: &pb.Finding{
		Item: it.Number, File: it.File, Line: it.Line, Offset: it.Offset, Document: it.Document, Severity: severity,
		Code: clean(f.Code, maxCode), Path: clean(f.Path, maxPath), Message: clean(f.Message, maxSentence),
	}}
}

// rest is the finding that stands for others, as bad as the worst of them.
func rest(hidden []Finding) Finding {
	f := Finding{Severity: SeverityWarning, Code: moreFindings,
		Message: fmt.Sprintf("There are %d more findings about this item, which are not listed.", len(hidden))}
	for _, h := range hidden {
		f.Severity = max(f.Severity, h.Severity)
	}
	return f
}

// clean makes text from outside fit for a message: valid UTF-8 without U+0000, at most most bytes long.
func clean(s string, most int) string {
	if len(s) > most {
		s = s[:most]
		// The cut may have gone through a character, which is not the text's fault.
		for i := 1; i < utf8.UTFMax && i <= len(s); i++ {
			if r := s[len(s)-i]; utf8.RuneStart(r) {
				if !utf8.FullRuneInString(s[len(s)-i:]) {
					s = s[:len(s)-i]
				}
				break
			}
		}
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	return s
}
