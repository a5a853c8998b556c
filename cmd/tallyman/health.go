package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/health"
)

// Bounds of the time between two looks.
const (
	minInterval = time.Second
	maxInterval = day
)

// checkup is what the flags of health say.
type checkup struct {
	limits   health.Limits
	timeout  time.Duration
	watch    bool
	interval time.Duration
	quiet    bool
}

func (p *program) healthVerb() *cobra.Command {
	var c checkup
	verb := &cobra.Command{
		Use:   "health",
		Short: "Say in one line whether all is well; made for cron",
		Long: `Ask the coordinator whether it and its database answer, how many batches of the last hour crashed, who works and what
waits, and say so in one line. The exit code is 0 when all is well, 1 when a limit is passed or the database is away,
and 69 when no coordinator answers.

The crash rate is the share of the batches that ended in the window, cancelled ones apart, of which at least one attempt
died with its worker; those whose worker was only lost from sight do not count. With fewer than 20 batches in the
window it raises no alarm.`,
		Example: `  tallyman health
  tallyman health --max-crash-rate 2% --window 24h --min-workers 1 --max-wait 10m
  tallyman health --quiet || mail -s 'tallyman is not well' ops < /dev/null
  tallyman health --watch --interval 10s`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			if c.interval < minInterval || c.interval > maxInterval {
				return usageError("--interval %s: must be %s to %s", display.Span(c.interval), display.Span(minInterval), display.Span(maxInterval))
			}
			if c.timeout <= 0 || c.limits.Window <= 0 || c.limits.MinWorkers < 0 {
				return usageError("--timeout and --window must be above 0, and --min-workers must not be negative")
			}
			return p.withConnection(verb, func(ctx context.Context, conn *connection) error {
				if !conn.live() {
					return &exitError{code: exitUnreachable, err: fmt.Errorf("no server serves the data folder %s", p.data)}
				}
				return p.checkUp(ctx, conn.Client, c)
			})
		},
	}
	flags := verb.Flags()
	spanVar(flags, &c.limits.Window, "window", time.Hour, "over which the crash rate is taken")
	c.limits.MaxCrashRate = 0.05
	flags.Var((*rate)(&c.limits.MaxCrashRate), "max-crash-rate", "crash rate above which all is not well, such as 5% or 0.05")
	flags.IntVar(&c.limits.MinWorkers, "min-workers", 0, "fewer live workers are not enough")
	spanVar(flags, &c.limits.MaxWait, "max-wait", 0, "for how long a job may wait with nobody who works on it; 0 for ever")
	spanVar(flags, &c.timeout, "timeout", 10*time.Second, "for the answers of the coordinator")
	flags.BoolVar(&c.watch, "watch", false, "look again and again until it is interrupted; then the last look counts")
	spanVar(flags, &c.interval, "interval", 10*time.Second, "between two looks of --watch")
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "say nothing while all is well")
	return verb
}

// checkUp looks once, or again and again, and returns what the last look found.
func (p *program) checkUp(ctx context.Context, c *client.Client, up checkup) error {
	if !up.watch {
		return p.lookOnce(ctx, c, up)
	}
	ticker := time.NewTicker(up.interval)
	defer ticker.Stop()
	code := exitOK
	for {
		err := p.lookOnce(ctx, c, up)
		exit, judged := errors.AsType[*exitError](err)
		switch {
		case ctx.Err() != nil:
			return exitWith(code) // the look was cut short
		case err == nil:
			code = exitOK
		case judged:
			code = exit.code
			if exit.err != nil && p.format() != display.JSON {
				fmt.Fprintf(p.stdout, "%s UNREACHABLE: %s\n", time.Now().Format(time.TimeOnly), display.CleanLines(exit.Error()))
			}
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return exitWith(code)
		case <-ticker.C:
		}
	}
}

// lookOnce looks and says what it saw. Its error has the exit code; that of a look that got no answer says why.
func (p *program) lookOnce(ctx context.Context, c *client.Client, up checkup) error {
	bounded, cancel := context.WithTimeout(ctx, up.timeout)
	defer cancel()
	report, err := health.Look(bounded, c, up.limits)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return err
		case bounded.Err() != nil:
			err = fmt.Errorf("no answer within %s: %w", display.Span(up.timeout), err)
		case exitCode(err) != exitUnreachable:
			return err
		}
		report.Problems = append(report.Problems, err.Error())
		if p.format() == display.JSON {
			if err := p.writeReport(report, up.watch); err != nil {
				return err
			}
		}
		return &exitError{code: exitUnreachable, err: err}
	}
	if !report.OK || !up.quiet {
		if err := p.writeReport(report, up.watch); err != nil {
			return err
		}
	}
	if !report.OK {
		return &exitError{code: exitOther}
	}
	return nil
}

func (p *program) writeReport(report *health.Report, timed bool) error {
	if p.format() == display.JSON {
		return display.WriteValue(p.stdout, report)
	}
	line := report.Line()
	if timed {
		line = report.At.Local().Format(time.TimeOnly) + " " + line
	}
	if _, err := fmt.Fprintln(p.stdout, line); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// rate is the value of a flag for a share: 5% or 0.05.
type rate float64

// Set implements pflag.Value.
func (r *rate) Set(text string) error {
	number, isPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if isPercent {
		n /= 100
	}
	if err != nil || !(n >= 0 && n <= 1) {
		return errors.New("want a share such as 5% or 0.05")
	}
	*r = rate(n)
	return nil
}

// String implements pflag.Value.
func (r *rate) String() string { return strconv.FormatFloat(float64(*r)*100, 'g', -1, 64) + "%" }

// Type implements pflag.Value.
func (r *rate) Type() string { return "share" }
