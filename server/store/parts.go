package store

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
)

// othersHeard is how recently another worker must have been heard of to count as one that could handle a batch.
const othersHeard = 30 * time.Second

// Colleague is a live session that takes batches, as far as it matters for a batch that died on another worker.
type Colleague struct {
	ID     string
	Kinds  []string
	Silent time.Duration // since it was last heard of
}

// Others reports whether a worker other than the one named could handle batches of a kind.
func Others(workers []Colleague, but, kind string) bool {
	for _, w := range workers {
		if w.ID == but || w.Silent > othersHeard {
			continue
		}
		for _, k := range w.Kinds {
			if k == kind {
				return true
			}
		}
	}
	return false
}

// NewPart is a part of a split batch as a store keeps it.
type NewPart struct {
	job.Part
	FirstItem int64 // its number in the upload
	Weight    int32
	Documents []string // distinct, in order of appearance
	Outcomes  []job.Run
}

// Cut makes the parts of a batch that is split, of which outcomes are known of the items at its front. items are all of
// the batch's.
func Cut(items []payload.Item, weight int32, outcomes []job.Run, parts []job.Part) []NewPart {
	list := make([]NewPart, len(parts))
	left, leftItems := int64(weight), int64(len(items))
	for i, p := range parts {
		n := NewPart{Part: p, FirstItem: items[p.First].Number}
		// How much each item weighs is not known any more.
		share := left * int64(p.Items) / max(leftItems, 1)
		n.Weight, left, leftItems = int32(share), left-share, leftItems-int64(p.Items)
		seen := map[string]bool{}
		for _, it := range items[p.First : p.First+p.Items] {
			if it.Document != "" && !seen[it.Document] {
				seen[it.Document] = true
				n.Documents = append(n.Documents, it.Document)
			}
		}
		if p.State == job.BatchCompleted {
			n.Outcomes = outcomes
		}
		if p.State == job.BatchCrashed {
			n.Outcomes = []job.Run{{Count: p.Items, Outcome: job.ItemCrashed}}
		}
		list[i] = n
	}
	return list
}

// Items returns the items of a batch from the frame of the one that ingest cut.
func Items(frame []byte, b *job.Batch) ([]payload.Item, error) {
	items, err := payload.DecodeRange(frame, b.FirstItem, int(b.ItemCount), math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("read items of batch %d: %w", b.ID, err)
	}
	return items, nil
}

// ItemCrashed is the code of the finding that names a culprit.
const ItemCrashed = "ITEM_CRASHED"

// Culprit is the finding about an item that killed its worker, the last time as end says.
func Culprit(it *payload.Item, jobID, batchID int64, end *job.End) Finding {
	// Workers say which item their message is about, which is said here anyway.
	why := strings.TrimPrefix(end.Message, fmt.Sprintf("item %d (%s:%d): ", it.Number, it.File, it.Line))
	if end.Crash != nil {
		if words := lastLine(end.Crash.Stderr); words != "" {
			why += fmt.Sprintf("; its last words: %s", words)
		}
	}
	message := "It killed the process that handled it, twice"
	if why != "" {
		message += ": " + why
	}
	return Finding{
		JobID: jobID, BatchID: batchID, Item: it.Number, Severity: Error, Code: ItemCrashed, File: it.File, Line: it.Line,
		Offset: it.Offset, Document: it.Document, Message: message,
	}
}

// shellWords is what a shell says of the signal that its child died of, which is known otherwise.
var shellWords = map[string]bool{
	"Segmentation fault": true, "Aborted": true, "Killed": true, "Bus error": true, "Illegal instruction": true,
	"Floating point exception": true, "Terminated": true,
}

// lastLine returns the last line of text that is not blank, and not a shell's about its child.
func lastLine(text string) string {
	for text = strings.TrimSpace(text); text != ""; {
		end := strings.LastIndexByte(text, '\n') + 1
		line := strings.TrimSpace(text[end:])
		if !shellWords[strings.TrimSuffix(line, " (core dumped)")] {
			return line
		}
		text = strings.TrimSpace(text[:end])
	}
	return ""
}

// WaitingMessage is what an attempt ends with whose worker died before it began.
const WaitingMessage = "the worker died before it began with this batch"
