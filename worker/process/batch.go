package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/worker"
)

// batch has a new process handle all open items at once.
func (h *Handler) batch(ctx context.Context, b *worker.Batch) error {
	c, err := h.parent.start(h.environment(b))
	if err != nil {
		return err
	}
	var unfit error
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		unfit = h.feed(c, b)
	}()
	select {
	case <-c.ended:
		c.discard()
	case <-ctx.Done():
		limit := limitOf(ctx)
		if limit == nil {
			c.stop()
			<-fed
			return context.Cause(ctx)
		}
		c.kill(limit)
		c.discard()
	}
	// A process need not read all that it is given. It ends the writing of what it leaves.
	if <-fed; unfit != nil {
		return unfit
	}
	switch e := c.exit; {
	case c.killedFor() != nil, e.signal != "":
		return crash(c, unknownSuspect)
	case e.code == exitTemporary:
		return temporary(c)
	case e.code != 0:
		return fmt.Errorf("the command %s%s", e, lastWords(c))
	}
	value, err := h.value(&c.output)
	if err != nil {
		return err
	}
	b.ReportRest(worker.Result{Outcome: worker.Stored, Value: value})
	return nil
}

// feed writes the open items to the process, and then the end. Its error is one of the items.
func (h *Handler) feed(c *child, b *worker.Batch) error {
	w := bufio.NewWriterSize(c.stdin, 64<<10)
	var bad error
	for i := b.Done; i < len(b.Items); i++ {
		line, err := h.lineOf(b, &b.Items[i])
		if err != nil {
			bad = worker.Permanent(fmt.Errorf("%s: %w", place(&b.Items[i]), err))
			c.kill(nil)
			break
		}
		if _, err := w.Write(line); err != nil {
			break
		}
	}
	_ = errors.Join(w.Flush(), c.stdin.Close())
	return bad
}

// value returns the result that the output of a batch is.
func (h *Handler) value(o *output) (json.RawMessage, error) {
	switch {
	case o.long:
		return nil, fmt.Errorf("the command wrote more than %d bytes to standard output (%s)", h.config.MaxOutput, SettingMaxOutput)
	case h.config.Output == Text:
		if !utf8.Valid(o.data) {
			return nil, errors.New("what the command wrote to standard output is not valid UTF-8")
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(string(o.data)); err != nil {
			return nil, fmt.Errorf("keep the command's output: %w", err)
		}
		if text.Len() > worker.MaxValue {
			return nil, fmt.Errorf("what the command wrote to standard output takes %d bytes as a JSON string, and %d is the most "+
				"that is kept", text.Len(), worker.MaxValue)
		}
		return bytes.TrimSpace(text.Bytes()), nil
	case h.config.Output == JSON && len(bytes.TrimSpace(o.data)) > 0:
		if !json.Valid(o.data) {
			return nil, errors.New("what the command wrote to standard output is not one JSON value")
		}
		return bytes.TrimSpace(o.data), nil
	default:
		return nil, nil
	}
}
