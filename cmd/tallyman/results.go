package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) resultsVerb() *cobra.Command {
	request := tallymanv1.ExportResultsRequest{}
	var bare bool
	verb := &cobra.Command{
		Use:   "results [JOB]",
		Short: "Write what handlers made of a job's items",
		Long: `Write what handlers made of a job's items, as JSON Lines in the order of the upload. Each line is an object with the
result and the place of its item: item (its number in the upload), file, line, document where it has one, and batch_id. A
result of several items together has last_item, too. With --bare each line is the result alone.

Items without a result are left out. While the job runs it writes what there is by now.`,
		Example: `  tallyman results --job 3 > results.jsonl
  tallyman results 3 | jq -c 'select(.result.tags == []) | .document'
  tallyman results 3 --bare | jq -s 'map(.tags[]) | unique'
  tallyman results 3 --bare | tallyman submit - --project my-corpus`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			var err error
			if request.JobId, err = namedJob(args, request.GetJobId()); err != nil {
				return err
			}
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				if request.JobId, err = p.jobOrNewest(ctx, c, request.GetJobId()); err != nil {
					return err
				}
				return p.writeResults(ctx, c, &request, bare)
			})
		},
	}
	flags := verb.Flags()
	flags.Int64Var(&request.JobId, "job", 0, "the job (default: the newest)")
	flags.BoolVar(&bare, "bare", false, "write the results alone, without the places of their items")
	return verb
}

// resultLine is a result as it is written.
type resultLine struct {
	Item     int64           `json:"item"`
	LastItem int64           `json:"last_item,omitzero"` // of several
	File     string          `json:"file"`
	Line     int64           `json:"line"`
	Document string          `json:"document,omitzero"`
	BatchID  int64           `json:"batch_id"`
	Result   json.RawMessage `json:"result"`
}

func (p *program) writeResults(ctx context.Context, c *connection, request *tallymanv1.ExportResultsRequest, bare bool) (err error) {
	out := bufio.NewWriterSize(p.stdout, exportBuffer)
	defer func() { err = errors.Join(err, out.Flush()) }()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false) // what a handler wrote is written as it is
	var n int64
	for r, err := range c.Results(ctx, request) {
		if err != nil {
			return err
		}
		n++
		line := resultLine{
			Item: r.GetItem(), File: r.GetFile(), Line: r.GetLine(), Document: r.GetDocument(), BatchID: r.GetBatchId(),
			Result: r.GetValue(),
		}
		if r.GetLastItem() > r.GetItem() {
			line.LastItem = r.GetLastItem()
		}
		if bare {
			_, err = out.Write(append(r.GetValue(), '\n'))
		} else {
			err = lines.Encode(line)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	fmt.Fprintf(p.stderr, "job %d: %s\n", request.GetJobId(), display.Plural(n, "result"))
	return nil
}
