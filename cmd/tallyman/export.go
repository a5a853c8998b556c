package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store/open"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
)

// exportBuffer is what is written at once, in bytes.
const exportBuffer = 256 << 10

func (p *program) exportVerb() *cobra.Command {
	var project, storeDSN, to string
	var force bool
	verb := &cobra.Command{
		Use:   "export",
		Short: "Write the annotations of a project as JSON Lines",
		Long: `Write the annotations of a project in PubAnnotation's JSON format, one document a line, in order of sourcedb and
sourceid. It reads the annotation store itself, also while jobs write to it; what it writes of a document is always
whole.`,
		Example: `  tallyman export --project my-corpus > my-corpus.jsonl
  tallyman export --project my-corpus --to my-corpus.jsonl
  tallyman export --project my-corpus --store postgres://tallyman@db/tallyman | gzip > my-corpus.jsonl.gz`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			if project == "" {
				return usageError("--project is needed")
			}
			dsn, err := p.storeToRead(storeDSN)
			if err != nil {
				return err
			}
			n, err := p.exportTo(verb.Context(), dsn, strings.ToLower(project), to, force)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stderr, "project %s: %s documents\n", project, display.Number(n))
			return nil
		},
	}
	flags := verb.Flags()
	flags.StringVar(&project, "project", "", "the project")
	flags.StringVar(&storeDSN, "store", "", "annotation store, sqlite:PATH or postgres://… (default: "+folder.Annotations+
		" in the data folder)")
	flags.StringVar(&to, "to", "", "write a new file instead of standard output")
	flags.BoolVar(&force, "force", false, "write over an existing file")
	return verb
}

// storeToRead returns the store that was named, or that of the data folder. What is not there is not made.
func (p *program) storeToRead(dsn string) (string, error) {
	if dsn == "" && p.server != "" {
		return "", usageError("--store is needed with --server: export reads the annotation store, which the server does not know")
	}
	if dsn == "" {
		dsn = folder.DSN(p.data, folder.Annotations)
	}
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("there is no annotation store: %w; --data or --store name another", err)
		}
	}
	return dsn, nil
}

func (p *program) exportTo(ctx context.Context, dsn, project, to string, force bool) (int64, error) {
	if to == "" || to == stdinName {
		return export(ctx, dsn, project, p.stdout)
	}
	out, err := create(to, force)
	if err != nil {
		return 0, err
	}
	n, err := export(ctx, dsn, project, out)
	return n, errors.Join(err, out.Close())
}

// export writes the documents of a project and returns their number.
func export(ctx context.Context, dsn, project string, w io.Writer) (int64, error) {
	st, err := open.Open(ctx, dsn)
	if err != nil {
		return 0, err
	}
	var n int64
	var line []byte
	out := bufio.NewWriterSize(w, exportBuffer)
	err = st.Export(ctx, project, func(it *annotation.Item) error {
		n++
		line = append(it.AppendJSON(line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	})
	return n, errors.Join(err, out.Flush(), st.Close())
}
