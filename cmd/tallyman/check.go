package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/check"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
	"github.com/tallyman-dev/tallyman/server/ingest"
)

func (p *program) checkVerb() *cobra.Command {
	var flags checkFlags
	verb := &cobra.Command{
		Use:         "check FILE...",
		Short:       "Validate files as a job would, without a server",
		Annotations: lists,
		Long: `Validate files as a job would, without a server, and list what a job would find, or how it would cut them into
batches, on all processors. What depends on documents stored before is not known here.
` + filesHelp + `
It ends with 0 if every item is valid, with 2 if not.`,
		Example: `  tallyman check collection.jsonl
  tallyman check collection.jsonl.gz --sourcedb PubMed -o json
  tallyman check corpus/ extra.tgz
  tallyman check collection.jsonl --batches`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			if err := errors.Join(flags.cut.Validate(), flags.limits.Validate()); err != nil {
				return usageError("%w", err)
			}
			in, err := p.input(args)
			if err != nil {
				return err
			}
			summary, err := p.check(verb.Context(), in, flags)
			if err != nil {
				return err
			}
			p.concludeCheck(in.title(), summary)
			if !summary.OK() {
				return exitWith(exitWithErrors)
			}
			return nil
		},
	}
	flags.add(verb.Flags())
	return verb
}

type checkFlags struct {
	sourceDB string
	fromName bool
	cut      ingest.CutConfig
	limits   ingest.ReaderConfig
	batches  bool
}

func (f *checkFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.sourceDB, "sourcedb", "", "sourcedb of items that have none")
	flags.BoolVar(&f.fromName, sourceIDFlag, false, sourceIDHelp)
	flags.IntVar(&f.cut.Weight, "batch-weight", 0, "annotations after which a batch closes (default 500)")
	flags.IntVar(&f.cut.Items, "batch-items", 0, "items at which a batch closes (default 1000)")
	sizeVar(flags, &f.cut.Bytes, "batch-bytes", "bytes at which a batch closes (default 8 MiB)")
	readLimits(flags, &f.limits)
	flags.BoolVar(&f.batches, "batches", false, "list the batches instead of the findings")
}

// check writes the findings or the batches of an input as they are made.
func (p *program) check(ctx context.Context, in input, flags checkFlags) (check.Summary, error) {
	var summary check.Summary
	config := check.Config{File: in.name(), DefaultSourceDB: flags.sourceDB, SourceIDFromName: flags.fromName, Cut: flags.cut, Limits: flags.limits}
	run := func(config check.Config) error {
		source, err := p.open(ctx, in)
		if err != nil {
			return err
		}
		summary, err = check.Run(ctx, source, config)
		return err
	}
	if flags.batches {
		batches := pushed(func(push func(*tallymanv1.Batch) error) error {
			ordinal := int32(0)
			config.Batch = func(b ingest.Batch) error {
				ordinal++
				return push(plannedBatch(b, ordinal-1))
			}
			return run(config)
		})
		_, _, err := display.PlannedBatches.Write(p.stdout, p.format(), batches, 0)
		return summary, err
	}
	findings := pushed(func(push func(*tallymanv1.Finding) error) error {
		config.Finding = func(f ingest.Finding) error { return push(foundFinding(f)) }
		return run(config)
	})
	_, _, err := display.Findings.Write(p.stdout, p.format(), findings, 0)
	return summary, err
}

// errEnough ends a push whose receiver wants no more.
var errEnough = errors.New("enough")

// pushed makes a sequence of what a function pushes.
func pushed[T any](f func(push func(T) error) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := f(func(entry T) error {
			if !yield(entry, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			var none T
			yield(none, err)
		}
	}
}

func foundFinding(f ingest.Finding) *tallymanv1.Finding {
	severity := tallymanv1.Severity_SEVERITY_WARNING
	if f.Severity == ingest.SeverityError {
		severity = tallymanv1.Severity_SEVERITY_ERROR
	}
	return &tallymanv1.Finding{
		Item: f.Item, Severity: severity, Code: f.Code, File: f.File, Line: f.Line, Offset: f.Offset,
		Document: f.Document, Path: f.Path, Message: f.Message,
	}
}

// maxPlannedDocuments is how many documents a batch names, as in the protocol.
const maxPlannedDocuments = 10

func plannedBatch(b ingest.Batch, ordinal int32) *tallymanv1.Batch {
	return &tallymanv1.Batch{
		Ordinal:       ordinal,
		FirstItem:     b.FirstItem,
		ItemCount:     int32(b.Items),
		Weight:        int32(b.Weight),
		Documents:     b.Documents[:min(len(b.Documents), maxPlannedDocuments)],
		DocumentCount: int32(len(b.Documents)),
	}
}

func (p *program) concludeCheck(title string, s check.Summary) {
	fmt.Fprintf(p.stderr, "%s: %s items, of which %s valid with %s annotations; %s batches; %s errors, %s warnings\n",
		display.Clean(title), display.Number(s.Items), display.Number(s.Valid), display.Number(s.Annotations),
		display.Number(s.Batches), display.Number(s.Errors), display.Number(s.Warnings))
}
