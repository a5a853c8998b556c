package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/internal/certificates"
	"github.com/tallyman-dev/tallyman/internal/coordinators"
)

// program is one run of the command line: what all verbs share.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	data   string // folder of local state
	server string // addresses of coordinators; empty to find one
	output string

	tlsCA     string // trusted authorities
	tls       certificates.Files
	tokenFile string

	logLevel  string
	logFormat string

	started bool // the command line was right, and a verb began
}

// run does what the arguments say and returns the exit code. The first SIGINT or SIGTERM ends it in order, the second
// kills the process as if nobody listened.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return execute(ctx, args, stdin, stdout, stderr)
}

// execute is run until ctx ends.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr}
	root := p.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	verb, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if !p.started && code == exitOther {
		code = exitUsage
	}
	if exit, ok := errors.AsType[*exitError](err); ok && exit.err == nil {
		return code
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		fmt.Fprintln(stderr, "tallyman: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "tallyman: %s\n", display.CleanLines(withFlags(verb, err)))
	switch code {
	case exitUsage:
		fmt.Fprintf(stderr, "Run `%s --help` for what it takes, with examples.\n", verb.CommandPath())
	case exitUnreachable:
		if refusal, ok := errors.AsType[*client.Error](err); !ok || !refusal.Unreachable() {
			break // what to do is said, or it answers, but cannot work at the moment
		}
		if strings.Contains(err.Error(), "server preface") { // what gRPC says where something hangs up on who speaks without TLS
			fmt.Fprintln(stderr, "If it speaks TLS, name its authority: --tls-ca FILE, or --tls-ca system.")
			break
		}
		fmt.Fprintln(stderr, "Is a coordinator running there? `tallyman serve --workers 2` starts one; --server names another.")
	}
	return code
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tallyman",
		Short: "Take in annotation collections of any size and account for every item",
		Long: `Tallyman takes annotation collections of any size, cuts them into batches, hands the batches to workers and
accounts for every item: stored, rejected with a reason, or named as the one that killed its worker.

Every flag can also be given as an environment variable (--log-level as TALLYMAN_LOG_LEVEL) or as a line of the
file that --config names (log-level = debug), in this precedence.

Exit codes: 0 succeeded, 2 completed with errors, 3 job failed, 4 cancelled, 64 wrong usage, 69 server
unreachable, 77 not permitted, 130 interrupted by Ctrl-C or SIGTERM before the end (serve and work end in order
then, with 0), 1 anything else.`,
		Example: `  tallyman run collection.jsonl --project my-corpus
  tallyman findings
  tallyman export --project my-corpus`,
		Version:       about().Version, // for --version
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(verb *cobra.Command, _ []string) error {
			if err := applySettings(verb, os.LookupEnv); err != nil {
				return err
			}
			format, err := display.ParseFormat(p.output)
			if err != nil {
				return err
			}
			if format == display.TSV && !isList(verb) {
				return errNoTSV
			}
			if p.server != "" {
				if _, err := coordinators.Split(p.server); err != nil {
					return usageError("--server: %w", err)
				}
			}
			p.started = true
			return nil
		},
	}
	root.SetVersionTemplate(about().line())
	flags := root.PersistentFlags()
	flags.StringVar(&p.data, "data", "tallyman-data", "folder of the embedded database")
	flags.StringVar(&p.server, "server", "", "address of a coordinator, or of several that share a database, separated by commas\n(default: the one of the data folder)")
	p.credentialFlags(flags)
	flags.StringVarP(&p.output, "output", "o", "table", "table, json or tsv; json is one object a line")
	flags.String("config", "", "file of settings, one flag = value a line")
	flags.StringVar(&p.logLevel, "log-level", "", "debug, info, warn or error (default: info of serve and work, else warn)")
	flags.StringVar(&p.logFormat, "log-format", "", "text or json (default: text; on a terminal, of run and the like, short lines)")
	root.AddCommand(
		p.profiled(p.runVerb()), p.profiled(p.serveVerb()), p.profiled(p.workVerb()), p.submitVerb(), p.watchVerb(), p.jobsVerb(), p.batchesVerb(),
		p.workersVerb(), p.drainVerb(), p.findingsVerb(), p.itemsVerb(), p.resultsVerb(), p.exportVerb(), p.pauseVerb(),
		p.resumeVerb(), p.cancelVerb(), p.retryVerb(), p.findVerb(), p.statsVerb(), p.healthVerb(), p.cleanupVerb(),
		p.checkVerb(), p.sampleVerb(), p.benchVerb(), p.migrateVerb(), p.tokenVerb(), p.versionVerb(), p.manVerb(), p.isolatedVerb(),
	)
	completeValues(root)
	return root
}

// lists marks verbs that write lists, for which there is TSV.
var lists = map[string]string{"lists": ""}

func isList(verb *cobra.Command) bool {
	_, ok := verb.Annotations["lists"]
	return ok
}

var errNoTSV = usageError("-o tsv is for lists; choose table or json")

// format returns the output format, which is known to be right.
func (p *program) format() display.Format { return display.Format(p.output) }

// logger returns a logger on w, of the level that the flag says or else of the given one.
func (p *program) logger(w io.Writer, level slog.Level) (*slog.Logger, error) {
	if level >= slog.LevelWarn && p.logLevel == "" && p.logFormat == "" && isTerminal(p.stderr) {
		return display.NewLog(w, level), nil // of a command that somebody looks at
	}
	if p.logLevel != "" {
		if err := level.UnmarshalText([]byte(p.logLevel)); err != nil {
			return nil, usageError("--log-level %q: choose debug, info, warn or error", p.logLevel)
		}
	}
	options := &slog.HandlerOptions{Level: level}
	switch p.logFormat {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usageError("--log-format %q: choose text or json", p.logFormat)
}

// isTerminal reports whether a person sits at the other end of a stream.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// canRedraw reports whether a stream is a terminal that says how wide it is, which bars need.
func canRedraw(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	return err == nil && width > 0
}
