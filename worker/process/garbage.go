package process

import (
	"context"
	"fmt"
)

// settingAnswer stands in for the name of a limit where what a process wrote is no answer.
const settingAnswer = "answer"

// garbageError says that a process wrote something that is no answer to the item it had, for which it was killed.
type garbageError struct {
	limit *limitError
	death error // with a worker.Crash in it, which accuses the item
}

func (e *garbageError) Error() string { return e.death.Error() }
func (e *garbageError) Unwrap() error { return e.death }

// garbage kills the process for what it wrote, instead of an answer to an item.
func (s *stream) garbage(i int, text, setting string) error {
	c, limit := s.child, &limitError{setting, text}
	c.kill(limit)
	<-c.ended
	if c.exit.signal == "" && c.exit.code == exitTemporary {
		return temporary(c)
	}
	return &garbageError{limit, crashFor(c, i, limit)}
}

// accuse says whose fault it is that no answer came to an item: the item's, if the command has answered others as it should,
// and well more of them than it has not. Where it has never answered, by whatever process, a few of the next items are tried
// for that. They will be handled again, in their turn.
func (s *stream) accuse(ctx context.Context, i int, wrong *garbageError) error {
	credit, known := s.handler.spend(s.key)
	if credit {
		return wrong.death
	}
	if known {
		return wrong.limit
	}
	for j := i + 1; j < min(i+1+probes, len(s.batch.Items)); j++ {
		line, err := s.handler.lineOf(s.batch, &s.batch.Items[j])
		if err != nil {
			break
		}
		if _, err := s.item(ctx, j, line); err == nil {
			return wrong.death
		}
		s.drop(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return wrong.limit
}

// probes is how many items are tried to tell a wrong command from a wrong answer.
const probes = 2

// maxUnasked is how many processes may write a line that nobody asked for, one after the other and each behind the answer
// to its first item. It is no item's fault, as far as anybody knows; and the answers may belong to other items.
const maxUnasked = 3

// unaskedError says that a process wrote a line before it was given an item.
type unaskedError struct{ text []byte }

func (e *unaskedError) Error() string {
	if len(e.text) == 0 {
		return "the command wrote more lines than items (other things than answers belong on standard error)"
	}
	return fmt.Sprintf("the command wrote %s, which nobody asked for (other things than answers belong on standard error)", quote(e.text))
}

// Credit is how far it is believed that a command is right, and what it does wrong is an item's fault. One that mostly writes
// what is no answer has soon used it up.
const (
	maxCredit   = 100
	garbageCost = 2 // in answers
	maxCredits  = 1000
)

// answered notes that the command has answered as it should, for batches of a key.
func (h *Handler) answered(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.credit) >= maxCredits {
		clear(h.credit)
	}
	if h.credit == nil {
		h.credit = map[string]int{}
	}
	h.credit[key] = min(h.credit[key]+1, maxCredit)
}

// spend takes from the credit that the command has for batches of a key, if it is enough; known is false if it never had any.
func (h *Handler) spend(key string) (enough, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	credit, known := h.credit[key]
	if enough = credit >= garbageCost; enough {
		h.credit[key] = credit - garbageCost
	}
	return enough, known
}
