package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/worker"
	"github.com/tallyman-dev/tallyman/worker/annotations"
	"github.com/tallyman-dev/tallyman/worker/process"
)

// execution is what the flags say of the command that handles batches.
type execution struct {
	config  process.Config
	stderr  bool
	isolate bool  // there is none, and the handler of annotations is in processes of its own
	memory  int64 // that one of these may hold
}

const (
	execFlag = "exec"
	// execKind is the kind of jobs that a command handles when nobody gives it another name.
	execKind = "exec"
)

func (e *execution) flags(flags *pflag.FlagSet) {
	c := &e.config
	flags.StringVar(&c.Command, execFlag, "", "command line that handles the items, run by /bin/sh")
	flags.BoolVar(&e.isolate, isolateFlag, false, isolateHelp)
	flags.Int64Var(&e.memory, isolateMemoryFlag, 0, "that a process of --"+isolateFlag+" may hold (default: no limit)")
	flags.StringVar((*string)(&c.Mode), "exec-mode", string(process.Stream),
		"stream: an item a line, a line back for each; batch: all items at once, and the exit code")
	flags.BoolVar(&c.Ready, "exec-ready", false, "a command writes a line, {}, when it is ready for its first item")
	flags.BoolVar(&c.Envelope, "exec-envelope", false, "give each item as {\"item\":…} with its place, job, batch and attempt")
	flags.StringVar((*string)(&c.Output), "exec-output", "", "text or json: keep the output as the batch's result (with --exec-mode batch)")
	flags.BoolVar(&e.stderr, "exec-stderr", false, "show what commands write to standard error")
	flags.DurationVar(&c.ItemTimeout, process.SettingItemTimeout, 0, "for an item in mode stream (default 5m; -1s for none)")
	flags.DurationVar(&c.StartTimeout, process.SettingStartTimeout, 0,
		"for a new process, besides, until it is ready or has answered (default 2m; -1s for none)")
	flags.DurationVar(&c.BatchTimeout, process.SettingBatchTimeout, 0,
		"for a batch (default 1h in mode batch, else none; -1s for none)")
	sizeVar(flags, &c.MaxMemory, process.SettingMaxMemory, "that a process, with those it starts, may hold (default: no limit)")
	sizeVar(flags, &c.MaxAnswer, process.SettingMaxAnswer, "longest line that it may answer (default 16 MiB)")
	sizeVar(flags, &c.MaxOutput, process.SettingMaxOutput, "longest output of a batch that is kept (default and most 1 MiB)")
}

// execHelp explains --exec.
const execHelp = `
--exec has items of any kind handled by a command of yours, in a process for each batch in hand. It gets an item a
line and answers each with a line: {} stored, {"error":"…"} rejected, {"warning":"…"} stored, {"skip":"…"} skipped;
each may have a "result", which tallyman results gives back; {"annotations":{…}} goes into the annotation store
instead, for the project of the job. What kills its process is found, down to the item, and costs nothing else.
docs/exec.md has the rest; examples/exec has commands to begin with.
`

// check refuses flags that do not go together: those of a command without one, and a kind that is not a command's.
func (e *execution) check(flags *pflag.FlagSet, kind string) error {
	if flags.Changed(isolateMemoryFlag) && !e.isolate {
		return usageError("--%s without --%s", isolateMemoryFlag, isolateFlag)
	}
	if !flags.Changed(execFlag) {
		var unused []string
		flags.Visit(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, execFlag+"-") {
				unused = append(unused, "--"+f.Name)
			}
		})
		switch {
		case len(unused) > 0:
			return usageError("%s without --%s", strings.Join(unused, ", "), execFlag)
		case kind != "" && kind != tallymanv1.KindAnnotations:
			return usageError("--kind %q needs --%s, the command that handles its items", kind, execFlag)
		}
		return nil
	}
	switch {
	case kind == tallymanv1.KindAnnotations:
		return usageError("--kind %s has its own handler; give what --%s handles another name", kind, execFlag)
	case e.isolate:
		return usageError("--%s is for annotations; what --%s handles is in processes of its own anyway", isolateFlag, execFlag)
	}
	if err := e.config.Validate(); err != nil {
		return usageError("--%s: %w", execFlag, err)
	}
	return nil
}

// chosen reports whether a command handles the items.
func (e *execution) chosen() bool { return e.config.Command != "" }

// annotationHandlers returns the handler of annotations, on the store that the DSN names, in this process or isolated.
func (e *execution) annotationHandlers(
	ctx context.Context, dsn string, s *sourcing, slots int, logger *slog.Logger,
) (handlers, error) {
	if e.isolate {
		return isolatedHandlers(ctx, dsn, s, slots, e.memory, logger)
	}
	return annotationHandlers(ctx, dsn, s)
}

// commandHandlers returns the handler for one kind. What it makes of items goes on into the annotation store that the DSN
// names, if that is annotations; without a DSN nothing does.
func (e *execution) commandHandlers(
	ctx context.Context, kind, dsn string, s *sourcing, stderr io.Writer, logger *slog.Logger,
) (handlers, error) {
	config := e.config
	config.Logger = logger
	if e.stderr {
		config.Stderr = stderr
	}
	h, err := process.New(config)
	if err != nil {
		return handlers{}, err
	}
	byKind := func(st *annotations.Handler) map[string]worker.Handler {
		return map[string]worker.Handler{kind: annotations.NewResults(h, st)}
	}
	if dsn == "" {
		return handlers{byKind: byKind(nil), close: h.Close}, nil
	}
	st, end, err := openAnnotations(ctx, dsn, s)
	if err != nil {
		return handlers{}, errors.Join(err, h.Close())
	}
	return handlers{byKind: byKind(st), close: func() error { return errors.Join(h.Close(), end()) }}, nil
}

// again returns the flags of the command as they were given, with a space before each.
func (e *execution) again(flags *pflag.FlagSet) string {
	var text strings.Builder
	flags.Visit(func(f *pflag.Flag) {
		switch {
		case f.Name == sourceFlag, f.Name == sourceHeaderFlag: // which may be secrets
		case f.Name == execFlag, f.Name == isolateFlag, f.Name == isolateMemoryFlag, f.Name == minAlignmentFlag,
			strings.HasPrefix(f.Name, execFlag+"-"), strings.HasPrefix(f.Name, sourceFlag+"-"):
			text.WriteString(" --" + f.Name + "=" + quoted(f.Value.String()))
		}
	})
	return text.String()
}
