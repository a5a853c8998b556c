package display

import (
	"fmt"
	"strings"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// explain writes what is known of an attempt beyond its line in a list: how often it beat, of what its process died, and
// what was decided.
func explain(b *strings.Builder, a *tallymanv1.Attempt) {
	c := a.GetCrash()
	if c == nil && a.GetDecision() == "" {
		return
	}
	fmt.Fprintf(b, "\nattempt %d, %s\n", a.GetAttempt(), Plural(int64(a.GetBeats()), "beat"))
	if c != nil {
		fmt.Fprintf(b, "  %s\n", crash(c))
	}
	if a.GetDecision() != "" {
		fmt.Fprintf(b, "  then: %s\n", Clean(a.GetDecision()))
	}
	if text := strings.TrimRight(c.GetStderr(), "\n"); text != "" {
		b.WriteString("  its last words:\n")
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(b, "    | %s\n", Clean(line))
		}
	}
}

// crash says of what a process died.
func crash(c *tallymanv1.Crash) string {
	var parts []string
	switch {
	case c.GetSignal() != "":
		parts = append(parts, "ended by "+Clean(c.GetSignal()))
	case c.GetExitCode() != 0:
		parts = append(parts, fmt.Sprintf("exited with code %d", c.GetExitCode()))
	default:
		parts = append(parts, "ended")
	}
	if c.GetSuspect() > 0 {
		parts = append(parts, fmt.Sprintf("with the item at position %d of the batch at hand", c.GetSuspect()))
	}
	if n := c.GetPeakMemoryBytes(); n > 0 {
		parts = append(parts, "it held at most "+Bytes(n))
	}
	if c.GetFingerprint() != "" {
		parts = append(parts, "crashes like it: "+Clean(c.GetFingerprint()))
	}
	return strings.Join(parts, ", ")
}

// tree draws a split batch and its parts, each below the one that it is a part of. here is marked.
func tree(b *strings.Builder, family []*tallymanv1.Batch, here int64) {
	parts := map[int64][]*tallymanv1.Batch{}
	known := map[int64]bool{}
	for _, x := range family {
		known[x.GetBatchId()] = true
	}
	for _, x := range family {
		parent := x.GetParentId()
		if !known[parent] {
			parent = 0
		}
		parts[parent] = append(parts[parent], x)
	}
	var draw func(parent int64, indent string)
	draw = func(parent int64, indent string) {
		list := parts[parent]
		for i, x := range list {
			branch, next := "├─ ", "│  "
			if i == len(list)-1 {
				branch, next = "└─ ", "   "
			}
			if parent == 0 {
				branch, next = "", ""
			}
			fmt.Fprintf(b, "  %s%s%s\n", indent, branch, member(x, here))
			draw(x.GetBatchId(), indent+next)
		}
	}
	draw(0, "")
}

// member describes a batch of a family on one line.
func member(x *tallymanv1.Batch, here int64) string {
	items := fmt.Sprintf("%d items from %d on", x.GetItemCount(), x.GetFirstItem()) // rejected ones may lie between them
	if x.GetItemCount() == 1 {
		items = "item " + number(x.GetFirstItem())
	}
	text := fmt.Sprintf("%d %s, %s", x.GetBatchId(), BatchState(x.GetState()), items)
	if n := x.GetAttempt(); n > 0 {
		text += ", " + Plural(int64(n), "attempt")
	}
	if x.GetState() == tallymanv1.BatchState_BATCH_STATE_CRASHED {
		text += ", the culprit"
		if n := x.GetSuspectItem(); n != 0 && x.GetItemCount() > 1 {
			text += " is item " + number(n)
		} else if documents := x.GetDocuments(); len(documents) == 1 {
			text += ": " + Clean(documents[0])
		}
	}
	if x.GetBatchId() == here {
		text += "  ← this one"
	}
	return text
}
