package process

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/tallyman-dev/tallyman/worker"
)

// Handler has a command handle batches. It is safe for concurrent use.
type Handler struct {
	config Config
	parent *parent

	mu   sync.Mutex
	idle []*child // that wait for a batch, the oldest first
	busy int      // batches in hand
	most int      // of them at a time

	credit map[string]int // of the command, by the key of batches
}

var (
	_ worker.Handler   = (*Handler)(nil)
	_ worker.Preparer  = (*Handler)(nil)
	_ worker.AllAtOnce = (*Handler)(nil)
)

// New returns a handler that must be closed.
func New(config Config) (*Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure the command: %w", err)
	}
	config = config.withDefaults()
	return &Handler{config: config, parent: newParent(config)}, nil
}

// Close ends the processes that wait for a batch. No batch may be handled meanwhile or after.
func (h *Handler) Close() error {
	h.mu.Lock()
	idle := h.idle
	h.idle = nil
	h.mu.Unlock()
	var dismissals sync.WaitGroup
	for _, c := range idle {
		dismissals.Go(c.dismiss)
	}
	dismissals.Wait()
	return h.parent.close()
}

// AllAtOnce reports whether the command tells of no single items.
func (h *Handler) AllAtOnce() bool { return h.config.Mode == Batch }

// program matches the first word of a command line where it is the name of a program, and nothing that a shell reads
// otherwise.
var program = regexp.MustCompile(`^\s*([A-Za-z0-9_./+-]+)(?:\s|$)`)

// Prepare finds out whether the program that the command begins with is there.
func (h *Handler) Prepare(context.Context, string) error {
	found := program.FindStringSubmatch(h.config.Command)
	if found == nil {
		return nil
	}
	cmd := probe(found[1])
	if cmd == nil {
		return nil
	}
	cmd.Dir, cmd.Env = h.config.Dir, h.inherited()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the command %q cannot be run: there is no program %s here", h.config.Command, found[1])
	}
	return nil
}

// Handle has the command handle a batch. Its error is a worker.Crash when a process died over it, the cause of ctx, or
// says what the command did wrong, and then the batch is worth another attempt.
func (h *Handler) Handle(ctx context.Context, b *worker.Batch) error {
	defer h.enter()()
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	if h.config.Mode == Batch {
		return h.batch(ctx, b)
	}
	s := stream{handler: h, batch: b, key: strings.Join(shared(b), "\x00")}
	defer s.leave()
	return s.run(ctx)
}

// enter counts a batch in hand, until the function that it returns is called.
func (h *Handler) enter() (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy++
	h.most = max(h.most, h.busy)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy--
	}
}

// bounded returns ctx with the time limit of a batch.
func (h *Handler) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if h.config.BatchTimeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, h.config.BatchTimeout, &limitError{SettingBatchTimeout,
		fmt.Sprintf("took longer than %v for the batch (%s)", h.config.BatchTimeout, SettingBatchTimeout)})
}

// take returns a process that waits for items of batches of this key, a new one if there is none.
func (h *Handler) take(key string, b *worker.Batch) (*child, error) {
	for {
		c, other := h.waiting(key)
		if other != nil {
			// As many processes as batches at a time: one that is for other jobs makes room.
			other.dismiss()
		}
		if c == nil {
			break
		}
		if c.waits() {
			return c, nil
		}
		c.discard()
		h.config.Logger.Info("a process ended, or wrote something, while it waited for a batch", "pid", c.cmd.Process.Pid,
			"signal", c.exit.signal, "exit_code", c.exit.code)
	}
	c, err := h.parent.start(h.environment(b))
	if err != nil {
		return nil, err
	}
	c.key = key
	return c, nil
}

// waiting takes the youngest process of a key from those that wait, or else the oldest that has to make room for a new one.
func (h *Handler) waiting(key string) (c, other *child) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.idle) - 1; i >= 0; i-- {
		if h.idle[i].key == key {
			return h.remove(i), nil
		}
	}
	if len(h.idle) > 0 && len(h.idle)+h.busy > h.most {
		return nil, h.remove(0)
	}
	return nil, nil
}

func (h *Handler) remove(i int) *child {
	c := h.idle[i]
	h.idle = append(h.idle[:i:i], h.idle[i+1:]...)
	return c
}

// keep gives a process back, which waits for its next item.
func (h *Handler) keep(c *child) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.idle = append(h.idle, c)
}

// limitOf returns the limit that a context ended for, nil if it ended for another reason or lives.
func limitOf(ctx context.Context) *limitError {
	limit, _ := errors.AsType[*limitError](context.Cause(ctx))
	return limit
}
