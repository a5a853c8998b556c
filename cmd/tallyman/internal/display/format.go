// Package display writes what the coordinator knows for people and for scripts: lists as tables, TSV or JSON Lines, the
// progress of jobs, and what became of them.
package display

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Format is how output is written.
type Format string

// The formats.
const (
	Table Format = "table" // aligned, for people
	JSON  Format = "json"  // one object a line, with the field names of the protocol
	TSV   Format = "tsv"   // a header and a line an entry, tab-separated
)

// ParseFormat returns the format of that name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case Table, JSON, TSV:
		return f, nil
	}
	return "", fmt.Errorf("%q is no output format: choose table, json or tsv", name)
}

// jsonOptions are the same everywhere, so that scripts can rely on every field being there: 64-bit numbers are strings,
// as the JSON form of protocol buffers has it, so that nobody rounds them.
var jsonOptions = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// WriteJSON writes a message on one line.
func WriteJSON(w io.Writer, m proto.Message) error {
	text, err := jsonOptions.Marshal(m)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil { // protojson varies its white space on purpose
		return fmt.Errorf("write JSON: %w", err)
	}
	line.WriteByte('\n')
	return write(w, line.Bytes())
}

// WriteValue writes what is not a message of the protocol as JSON on one line.
func WriteValue(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return write(w, append(text, '\n'))
}

func write(w io.Writer, b []byte) error {
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// CleanLines is Clean for text of several lines. What follows the first is indented, so that no line from outside can be
// taken for one that the program begins.
func CleanLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, line := range lines {
		text := strings.TrimLeft(line, "\t")
		indent := strings.Repeat("  ", len(line)-len(text))
		if i > 0 && text != "" {
			indent += "  "
		}
		lines[i] = indent + Clean(text)
	}
	return strings.Join(lines, "\n")
}

// Clean makes text from outside fit for one line of a terminal: control characters, which could do anything there, are
// shown as Go writes them.
func Clean(s string) string {
	if !strings.ContainsFunc(s, isUnsafe) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isUnsafe(r) {
			quoted := fmt.Sprintf("%+q", r) // with its quotes
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
