package process

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/worker"
)

// envelope is an item with what a command may want to know of it. Numbers and names are those of the protocol.
type envelope struct {
	Item     json.RawMessage `json:"item"`
	Number   int64           `json:"number"`
	File     string          `json:"file"`
	Line     int64           `json:"line"`
	Offset   int64           `json:"offset"`
	Document string          `json:"document,omitempty"`
	JobID    int64           `json:"job_id"`
	BatchID  int64           `json:"batch_id"`
	Attempt  int32           `json:"attempt"`
}

// lineOf returns what the command gets for an item: one line, with its end. The item's own bytes are kept, but for spaces
// between its parts where there are ends of lines among them.
func (h *Handler) lineOf(b *worker.Batch, it *payload.Item) ([]byte, error) {
	data := bytes.TrimSpace(it.Data)
	if h.config.Envelope {
		data, err := json.Marshal(envelope{
			Item: data, Number: it.Number, File: it.File, Line: it.Line, Offset: it.Offset, Document: it.Document,
			JobID: b.JobID, BatchID: b.ID, Attempt: b.Attempt,
		})
		if err != nil {
			return nil, fmt.Errorf("put item into an envelope: %w", err)
		}
		return append(data, '\n'), nil
	}
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		return append(data[:len(data):len(data)], '\n'), nil
	}
	var out bytes.Buffer
	out.Grow(len(data) + 1)
	if err := json.Compact(&out, data); err != nil {
		return nil, fmt.Errorf("put item on one line: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// place names an item for people.
func place(it *payload.Item) string {
	text := fmt.Sprintf("item %d (%s:%d", it.Number, it.File, it.Line)
	if it.Document != "" {
		text += ", " + it.Document
	}
	return text + ")"
}
