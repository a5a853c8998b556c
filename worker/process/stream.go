package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// maxIdleDeaths is how many processes may end one after the other without having read the item they were given.
const maxIdleDeaths = 3

// stream has one batch handled item by item.
type stream struct {
	handler *Handler
	batch   *worker.Batch
	key     string
	child   *child // nil while there is none
	unasked int    // lines in a row that nobody asked for, each between two items
}

// run handles the open items. Each is reported as soon as it is answered.
func (s *stream) run(ctx context.Context) error {
	b := s.batch
	for i := b.Done; i < len(b.Items); i++ {
		line, err := s.handler.lineOf(b, &b.Items[i])
		if err != nil {
			return worker.Permanent(fmt.Errorf("%s: %w", place(&b.Items[i]), err))
		}
		for deaths := 0; ; {
			known := s.child != nil
			result, err := s.item(ctx, i, line)
			if err == nil {
				if known {
					s.unasked = 0
				}
				b.Report(result)
				break
			}
			s.drop(ctx)
			if extra, ok := errors.AsType[*unaskedError](err); ok {
				if s.unasked++; s.unasked == maxUnasked {
					return fmt.Errorf("before %s: %w", place(&b.Items[i]), extra)
				}
				s.handler.config.Logger.Warn("another process is started in the place of one that wrote what nobody asked for",
					"job_id", b.JobID, "batch_id", b.ID, "item", b.Items[i].Number, "error", extra)
				continue
			}
			if wrong, ok := errors.AsType[*garbageError](err); ok {
				return s.about(i, s.accuse(ctx, i, wrong))
			}
			idle, ok := errors.AsType[*idleDeathError](err)
			if deaths++; !ok || deaths == maxIdleDeaths {
				return err
			}
			s.handler.config.Logger.Info("a process ended between two items; another one is started",
				"job_id", b.JobID, "batch_id", b.ID, "signal", idle.exit.signal, "exit_code", idle.exit.code)
		}
	}
	return nil
}

// leave gives the process back, if there is one.
func (s *stream) leave() {
	if s.child != nil {
		s.handler.keep(s.child)
	}
}

// drop ends the process, which has ended, did something wrong, or must stop.
func (s *stream) drop(ctx context.Context) {
	if s.child == nil {
		return
	}
	if ctx.Err() != nil && limitOf(ctx) == nil {
		s.child.stop()
	} else {
		s.child.discard()
	}
	s.child = nil
}

// item gives an item to a process, and returns what became of it.
func (s *stream) item(ctx context.Context, i int, line []byte) (worker.Result, error) {
	if ctx.Err() != nil {
		return worker.Result{}, context.Cause(ctx)
	}
	config := &s.handler.config
	if s.child == nil {
		c, err := s.handler.take(s.key, s.batch)
		if err != nil {
			return worker.Result{}, err
		}
		s.child = c
		if err := s.start(ctx); err != nil {
			return worker.Result{}, err
		}
	}
	c := s.child
	limit, setting := config.ItemTimeout, SettingItemTimeout
	if !c.ready && limit > 0 {
		limit, setting = limit+max(config.StartTimeout, 0), SettingStartTimeout+" and "+SettingItemTimeout
		if config.StartTimeout < 0 {
			limit = 0
		}
	}
	text, sent, err := c.exchange(ctx, line, limit)
	if err == nil {
		result, err := parseAnswer(text)
		if err != nil {
			return result, s.garbage(i, fmt.Sprintf("answered %s, which is no answer: %v (other things than answers belong on "+
				"standard error)", quote(text), err), settingAnswer)
		}
		c.ready = true
		s.handler.answered(s.key)
		return result, nil
	}
	if errors.Is(err, errUnasked) {
		return worker.Result{}, &unaskedError{text}
	}
	return worker.Result{}, s.judge(ctx, i, sent, err, limit, setting)
}

// start waits until a new process is ready, if it says so.
func (s *stream) start(ctx context.Context) error {
	c, config := s.child, &s.handler.config
	if c.ready || !config.Ready {
		return nil
	}
	var expired <-chan time.Time
	if config.StartTimeout > 0 {
		timer := time.NewTimer(config.StartTimeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case l, ok := <-c.lines:
		if !ok && c.trouble != nil {
			return fmt.Errorf("the command began with a line of more than %d bytes (%s)", config.MaxAnswer, SettingMaxAnswer)
		}
		if !ok {
			return s.judge(ctx, -1, 0, errEnded, 0, "")
		}
		if !isObject(l.text) || l.more {
			return fmt.Errorf("the command began with %s, where one line with a JSON object says that it is ready", quote(l.text))
		}
		c.ready = true
		return nil
	case <-expired:
		return fmt.Errorf("the command was not ready within %v (%s)", config.StartTimeout, SettingStartTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// judge says what it means that a process gave no answer. Of the item so much was sent to it.
func (s *stream) judge(ctx context.Context, i, sent int, err error, limit time.Duration, setting string) error {
	c := s.child
	// What it did not read it cannot have died of. Where that is not known it had the item, unless it could not start.
	left, known := unread(c.stdin)
	had := sent > 0 && (!known || left < sent)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errMore):
		return s.garbage(i, "wrote more than one line for an item (other things than answers belong on standard error)", settingAnswer)
	case errors.Is(err, errLong):
		return s.garbage(i, fmt.Sprintf("wrote a line of more than %d bytes (%s)", s.handler.config.MaxAnswer, SettingMaxAnswer),
			SettingMaxAnswer)
	case errors.Is(err, errSlow) && !had:
		return fmt.Errorf("the command did not read its item within %v (%s)", limit, setting)
	case errors.Is(err, errSlow):
		c.kill(&limitError{SettingItemTimeout, fmt.Sprintf("did not answer within %v (%s); does it flush what it writes?",
			limit, setting)})
		<-c.ended
	case !c.endsWithin(closeTimeout):
		if errors.Is(err, errClosed) {
			return errors.New("the command closed its standard input and went on")
		}
		return errors.New("the command closed its standard output and went on")
	}
	switch {
	case c.killedFor() == nil && c.exit.signal == "" && c.exit.code == exitTemporary:
		return temporary(c)
	case !had, !known && !c.ready && (c.exit.code == exitNotFound || c.exit.code == exitNotRunnable):
		return &idleDeathError{exit: c.exit, words: lastWords(c), ready: c.ready, limit: c.killedFor()}
	}
	return s.about(i, crash(c, i))
}

// about adds to an error which item it is about.
func (s *stream) about(i int, err error) error {
	return fmt.Errorf("%s: %w", place(&s.batch.Items[i]), err)
}

// The exit codes of a shell that cannot run a command.
const (
	exitNotRunnable = 126
	exitNotFound    = 127
)

// idleDeathError is the end of a process that had not read the item it was given, which accuses nobody.
type idleDeathError struct {
	exit  exit
	words string
	ready bool
	limit *limitError
}

func (e *idleDeathError) Error() string {
	when := "before it read an item"
	if e.limit != nil {
		return fmt.Sprintf("%v, %s%s", e.limit, when, e.words)
	}
	return fmt.Sprintf("the command %s %s%s", e.exit, when, e.words)
}
