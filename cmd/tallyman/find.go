package main

import (
	"context"
	"iter"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/client"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

func (p *program) findVerb() *cobra.Command {
	var limit int
	verb := &cobra.Command{
		Use:         "find DOCUMENT",
		Short:       "List every batch that held a document, across jobs",
		Annotations: lists,
		Long: `List every batch that held a document, across jobs, the newest first. PubMed and PMC are understood in any case and as
people write them: PMID:8701013, PMC4402192. Of a batch that was split the part that holds it is listed.`,
		Example: `  tallyman find PMC:4402192
  tallyman find PubMed:8701013 -o tsv`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			return p.withConnection(verb, func(ctx context.Context, c *connection) error {
				return list(p, display.FoundBatches, found(ctx, c.Client, args[0]), limit)
			})
		},
	}
	verb.Flags().IntVar(&limit, "limit", 0, "most batches to list; 0 for all")
	return verb
}

// found returns the batches that held a document. A key that no batch held, but that is how people write one of PubMed or
// PMC, is looked for as that.
func found(ctx context.Context, c *client.Client, document string) iter.Seq2[*tallymanv1.Batch, error] {
	return func(yield func(*tallymanv1.Batch, error) bool) {
		held := false
		for _, key := range []string{document, usualKey(document)} {
			if held || key == "" {
				return
			}
			for batch, err := range c.Batches(ctx, &tallymanv1.ListBatchesRequest{Document: key}) {
				held = true
				if !yield(batch, err) {
					return
				}
			}
		}
	}
}

var asPeopleWrite = regexp.MustCompile(`^\s*(?i:(pmid)\s*:?|(pmc))\s*(\d+)\s*$`)

// usualKey returns the key that PMID:8701013 or PMC4402192 stand for, "" for everything else.
func usualKey(document string) string {
	match := asPeopleWrite.FindStringSubmatch(document)
	switch {
	case match == nil:
		return ""
	case match[1] != "":
		return "PubMed:" + match[3]
	}
	return "PMC:" + match[3]
}
