package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// cutShown bounds the items that are listed as cut off.
const cutShown = 20

func (p *program) itemsVerb() *cobra.Command {
	request := tallymanv1.ExportItemsRequest{}
	var outcomes []string
	verb := &cobra.Command{
		Use:   "items [JOB]",
		Short: "Write the items of a job that ended in some ways, as they were uploaded",
		Long: `Write the items of a job that ended in some ways, as they were uploaded, one a line and in their order, so
that they can be mended and uploaded again. With -o json each line is an object that also says its place and how it
ended, with its bytes in base64.

Of an item above the server's limit of an item's size only the beginning was kept, and so was of the rest of a file that
could not be read from there on; such items are written as they are kept, and listed on standard error. Of files in archives
that could not be read at all nothing was kept.`,
		Example: `  tallyman items --job 3 --outcome rejected,failed,crashed > bad.jsonl
  tallyman items 3 --outcome cancelled | tallyman submit - --project my-corpus
  tallyman items 3 --outcome rejected -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			parsed, err := display.ParseEnum[tallymanv1.Outcome]("outcome of an item", "OUTCOME_", tallymanv1.Outcome_value, outcomes)
			if err != nil {
				return usageError("--outcome: %w", err)
			}
			request.Outcomes = parsed
			if request.JobId, err = namedJob(args, request.GetJobId()); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if request.JobId, err = p.jobOrNewest(ctx, c, request.GetJobId()); err != nil {
					return err
				}
				return p.writeItems(ctx, c, &request)
			})
		},
	}
	flags := verb.Flags()
	flags.Int64Var(&request.JobId, "job", 0, "the job (default: the newest)")
	flags.StringSliceVar(&outcomes, "outcome", nil, "only items that ended so: "+
		"rejected, failed, crashed, cancelled, stored, stored_with_warnings, skipped, document_missing (default: all)")
	return verb
}

// writeItems writes items, and says of how many only the beginning is there.
func (p *program) writeItems(ctx context.Context, c *connection, request *tallymanv1.ExportItemsRequest) (err error) {
	out := bufio.NewWriterSize(p.stdout, exportBuffer)
	defer func() { err = errors.Join(err, out.Flush()) }()
	var n, cut, none int64
	var listed []string
	for it, err := range c.Items(ctx, request) {
		if err != nil {
			return err
		}
		n++
		if it.GetLength() > int64(len(it.GetData())) {
			if cut++; cut <= cutShown {
				listed = append(listed, fmt.Sprintf("  %s:%d: item %d, byte %d, %s bytes of which %s were kept", display.Clean(it.GetFile()),
					it.GetLine(), it.GetItem(), it.GetOffset(), display.Number(it.GetLength()), display.Number(int64(len(it.GetData())))))
			}
		}
		if p.format() == display.JSON {
			err = display.WriteJSON(out, it)
		} else if len(it.GetData()) == 0 { // a file that could not be read
			none++
		} else if _, err = out.Write(it.GetData()); err == nil {
			err = out.WriteByte('\n')
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	fmt.Fprintf(p.stderr, "job %d: %s\n", request.GetJobId(), display.Plural(n, "item"))
	if none > 0 {
		fmt.Fprintf(p.stderr, "%s stood for files or archives that could not be read, of which nothing was kept; see tallyman findings\n",
			display.Plural(none, "item"))
	}
	if cut > 0 {
		if cut > cutShown {
			listed = append(listed, fmt.Sprintf("  and %s more", display.Number(cut-cutShown)))
		}
		fmt.Fprintf(p.stderr, "warning: only the beginning was kept of these:\n%s\n", strings.Join(listed, "\n"))
	}
	return nil
}
