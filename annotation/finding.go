package annotation

import (
	"fmt"
	"slices"
	"strconv"
)

// Severity says what a finding does to its item. The numbers are kept in stores and never change; a greater one is worse.
type Severity uint8

// The severities.
const (
	Warning Severity = 1 // the item is accepted, its author should know
	Error   Severity = 2 // the item is rejected; of one that is stored nevertheless, something is not
)

// String returns "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Warning:
		return "warning"
	case Error:
		return "error"
	default:
		return "severity(" + strconv.Itoa(int(s)) + ")"
	}
}

// Finding is a warning or error about one item, with its exact place inside the item. Which item it is, and of which
// document, is for the caller to add.
type Finding struct {
	Code     Code
	Severity Severity
	Path     string // of the JSON value it is about, like "denotations[3].span.end"; empty: the item as a whole
	Message  string // for a person: what was found, what was expected, what to do; bounded and printable
}

// String returns the finding on one line.
func (f Finding) String() string {
	if f.Path == "" {
		return fmt.Sprintf("%s %s: %s", f.Severity, f.Code, f.Message)
	}
	return fmt.Sprintf("%s %s at %s: %s", f.Severity, f.Code, f.Path, f.Message)
}

// HasError reports whether one of findings is an error, which rejects an item that is validated.
func HasError(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// valuePath is the path of a value in an item, not yet spelled out.
type valuePath struct {
	collection string // or the whole path, when index is negative
	index      int
	field      string
	part       int    // of a field that is an array, counted from 1; 0: the field itself
	member     string // of the part
}

func atPath(path string) valuePath { return valuePath{collection: path, index: -1} }

func atEntry(c collection, index int, field string) valuePath {
	return valuePath{collection: c.String(), index: index, field: field}
}

// atPart is the path of a part, or of a member of it, of a span that is an array.
func atPart(c collection, index, part int, member string) valuePath {
	return valuePath{collection: c.String(), index: index, field: "span", part: part + 1, member: member}
}

// String returns the path.
func (p valuePath) String() string {
	if p.index < 0 {
		return p.collection
	}
	path := p.collection + "[" + strconv.Itoa(p.index) + "]"
	if p.field != "" {
		path += "." + p.field
	}
	if p.part > 0 {
		path += "[" + strconv.Itoa(p.part-1) + "]"
	}
	if p.member != "" {
		path += "." + p.member
	}
	return path
}

// findings collects what is found in one item within a bound. Errors have precedence over warnings, so that a rejected
// item always has one in its list.
type findings struct {
	max      int
	errors   []Finding
	warnings []Finding
	hidden   [Error + 1]int // by severity
}

// add adds a finding at the path that at.String returns. It is asked, and the message made, only if the finding is kept.
func (fs *findings) add(code Code, at fmt.Stringer, format string, args ...any) {
	severity := code.Severity()
	list := &fs.warnings
	if severity == Error {
		list = &fs.errors
	}
	if len(*list) >= fs.max {
		fs.hidden[severity]++
		return
	}
	*list = append(*list, Finding{Code: code, Severity: severity, Path: at.String(), Message: fmt.Sprintf(format, args...)})
}

func (fs *findings) rejected() bool { return len(fs.errors) > 0 }

// list returns errors before warnings, at most max of them, and one more for the rest.
func (fs *findings) list() []Finding {
	all := append(fs.errors, fs.warnings...)
	for _, f := range all[min(len(all), fs.max):] {
		fs.hidden[f.Severity]++
	}
	all = all[:min(len(all), fs.max):min(len(all), fs.max)]
	errs, warnings := fs.hidden[Error], fs.hidden[Warning]
	if errs+warnings == 0 {
		return all
	}
	severity := Warning
	if errs > 0 {
		severity = Error
	}
	return append(all, Finding{
		Code:     MoreFindings,
		Severity: severity,
		Message: fmt.Sprintf("This item has %d more errors and %d more warnings, which are not listed (the limit is %d). "+
			"Correct those listed and check it again.", errs, warnings, fs.max),
	})
}
