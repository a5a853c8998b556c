package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) findVerb() *cobra.Command {
	var limit int
	verb := &cobra.Command{
		Use:         "find DOCUMENT",
		Short:       "List every batch that held a document, across jobs",
		Annotations: lists,
		Example: `  tallyman find PMC:4402192
  tallyman find PubMed:8701013 -o tsv`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				request := &tallymanv1.ListBatchesRequest{Document: args[0]}
				return list(p, display.FoundBatches, c.Batches(ctx, request), limit)
			})
		},
	}
	verb.Flags().IntVar(&limit, "limit", 0, "most batches to list; 0 for all")
	return verb
}
