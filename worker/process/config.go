package process

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/tallyman-dev/tallyman/worker"
)

// Mode is how a command gets its items.
type Mode string

// The modes.
const (
	// Stream gives a process one item after the other, and waits for the answer to each.
	Stream = Mode("stream")
	// Batch gives a process all items of a batch, and takes its exit code for the answer.
	Batch = Mode("batch")
)

// Output is what becomes of what a command writes to standard output in mode Batch.
type Output string

// The kinds of output.
const (
	Discard = Output("")     // nothing
	Text    = Output("text") // it is the batch's result, as a JSON string
	JSON    = Output("json") // it is one JSON value, the batch's result
)

// The names that errors give the settings by.
const (
	SettingItemTimeout  = "exec-item-timeout"
	SettingBatchTimeout = "exec-batch-timeout"
	SettingStartTimeout = "exec-start-timeout"
	SettingMaxMemory    = "exec-max-memory-bytes"
	SettingMaxAnswer    = "exec-max-answer-bytes"
	SettingMaxOutput    = "exec-max-output-bytes"
	// SettingIsolatedMemory is the same for processes in which a handler is isolated.
	SettingIsolatedMemory = "isolate-max-memory-bytes"
)

// The defaults of limits.
const (
	DefaultItemTimeout  = 5 * time.Minute
	DefaultBatchTimeout = time.Hour // in mode Batch; in mode Stream there is none
	DefaultStartTimeout = 2 * time.Minute
	DefaultStopTimeout  = 2 * time.Second
	DefaultMaxAnswer    = 16 << 20
)

// Config of a Handler. Only Command is needed; zero values of the rest mean the defaults.
type Config struct {
	// Command is a command line, run by /bin/sh -c, on Windows by cmd /C. It is the worker's setting and has nothing of a
	// job in it: what is a job's is in the command's environment and on its standard input.
	Command string
	Mode    Mode // default Stream

	Dir string   // working folder; default that of this process
	Env []string // further variables, NAME=value; those that the handler sets go before

	// Ready means, in mode Stream, that a process writes a line, any JSON object, when it is ready for its first item.
	Ready bool
	// Envelope means that what a process gets of an item is an object with the item, where it lies, and its batch.
	Envelope bool
	Output   Output // in mode Batch; default Discard

	// ItemTimeout is for an item in mode Stream; default 5 min, below 0 none. StartTimeout is for a new process, besides, until
	// it is ready, or else until it has answered its first item; default 2 min, below 0 none. BatchTimeout is for a
	// batch; default 1 h in mode Batch, else none; below 0 none.
	ItemTimeout  time.Duration
	StartTimeout time.Duration
	BatchTimeout time.Duration
	// StopTimeout is for a process to end once it was asked to, before it is killed; default 2 s. It is to be well below
	// worker.Config.StopTimeout.
	StopTimeout time.Duration

	// MaxMemory is what a process, with those that it started, may hold in memory, in bytes; default no limit. It is watched,
	// on Linux only: elsewhere it is an error.
	MaxMemory int64
	MaxAnswer int64 // of one line of an answer, in bytes; default 16 MiB
	MaxOutput int64 // of the output of a batch, in bytes; default and most worker.MaxValue

	// Stderr gets what commands write to standard error, as lines that begin with the number of the process; default nobody.
	// It must be safe for concurrent use.
	Stderr io.Writer
	Logger *slog.Logger // default: none

	memorySetting string // the name of MaxMemory
}

// Validate reports the first field that cannot be used.
func (c Config) Validate() error {
	batch := c.Mode == Batch
	switch {
	case strings.TrimSpace(c.Command) == "":
		return errors.New("no command")
	case strings.ContainsRune(c.Command, 0):
		return errors.New("the command has a zero byte in it")
	case c.Mode != "" && c.Mode != Stream && c.Mode != Batch:
		return fmt.Errorf("mode %q: choose %s or %s", c.Mode, Stream, Batch)
	case batch && c.Ready:
		return errors.New("a process is told to say when it is ready, which is for mode stream")
	case batch && c.ItemTimeout != 0:
		return fmt.Errorf("%s is for mode stream: in mode batch nobody knows of single items", SettingItemTimeout)
	case batch && c.StartTimeout != 0:
		return fmt.Errorf("%s is for mode stream: in mode batch nobody knows when a process has started", SettingStartTimeout)
	case batch && c.MaxAnswer != 0:
		return fmt.Errorf("%s is for mode stream; in mode batch there is %s", SettingMaxAnswer, SettingMaxOutput)
	case !batch && c.Output != Discard:
		return errors.New("output is kept in mode batch only: in mode stream an answer has a result")
	case c.Output != Discard && c.Output != Text && c.Output != JSON:
		return fmt.Errorf("output %q: choose %s or %s", c.Output, Text, JSON)
	case c.Output == Discard && c.MaxOutput != 0:
		return fmt.Errorf("%s is for an output that is kept", SettingMaxOutput)
	case c.StopTimeout < 0:
		return fmt.Errorf("stop timeout %v: must not be negative", c.StopTimeout)
	case c.MaxMemory < 0:
		return fmt.Errorf("%s %d: must not be negative", SettingMaxMemory, c.MaxMemory)
	case c.MaxAnswer < 0:
		return fmt.Errorf("%s %d: must not be negative", SettingMaxAnswer, c.MaxAnswer)
	case c.MaxOutput < 0 || c.MaxOutput > worker.MaxValue:
		return fmt.Errorf("%s %d: must be at most %d", SettingMaxOutput, c.MaxOutput, worker.MaxValue)
	case c.MaxMemory > 0 && !watchesMemory:
		return fmt.Errorf("%s: the memory of processes can be watched on Linux only", SettingMaxMemory)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.Mode = cmp.Or(c.Mode, Stream)
	c.ItemTimeout = cmp.Or(c.ItemTimeout, DefaultItemTimeout)
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
	c.StopTimeout = cmp.Or(c.StopTimeout, DefaultStopTimeout)
	if c.Mode == Batch {
		c.BatchTimeout = cmp.Or(c.BatchTimeout, DefaultBatchTimeout)
	}
	c.memorySetting = cmp.Or(c.memorySetting, SettingMaxMemory)
	c.MaxAnswer = cmp.Or(c.MaxAnswer, DefaultMaxAnswer)
	c.MaxOutput = cmp.Or(c.MaxOutput, worker.MaxValue)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
