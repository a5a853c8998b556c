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
	discontinuous := chained
	verb := &cobra.Command{
		Use:   "export",
		Short: "Write the annotations of a project as JSON Lines",
		Long: `Write the annotations of a project in PubAnnotation's JSON format, one document a line, in order of sourcedb and
sourceid. It reads the annotation store itself, also while jobs write to it; what it writes of a document is always
whole.

An annotation of several parts (a span array) is stored as a chain: its parts are annotations of their own, all but the
last labeled _FRAGMENT, and each is tied to the one before it by a relation _lexicallyChainedTo. --discontinuous bag
folds what is a chain exactly back into span arrays.`,
		Example: `  tallyman export --project my-corpus > my-corpus.jsonl
  tallyman export --project my-corpus --to my-corpus.jsonl
  tallyman export --project my-corpus --discontinuous bag > my-corpus.jsonl
  tallyman export --project my-corpus --store postgres://tallyman@db/tallyman | gzip > my-corpus.jsonl.gz`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			if project == "" {
				return usageError("--project is needed")
			}
			write, ok := writers[discontinuous]
			if !ok {
				return usageError("--discontinuous is %q; %s and %s are known", discontinuous, chained, bagged)
			}
			dsn, err := p.storeToRead(storeDSN)
			if err != nil {
				return err
			}
			n, err := p.exportTo(verb.Context(), dsn, strings.ToLower(project), write, to, force)
			if err != nil {
				return err
			}
			if n == 0 { // also of a project whose every document was taken away, which is not told from a wrong name
				return fmt.Errorf("there are no documents of a project %s in this annotation store: `tallyman jobs` shows the projects; "+
					"--data or --store name another store", display.Clean(project))
			}
			fmt.Fprintf(p.stderr, "project %s: %s\n", project, display.Plural(n, "document"))
			return nil
		},
	}
	flags := verb.Flags()
	flags.StringVar(&project, "project", "", "the project")
	flags.StringVar(&storeDSN, "store", "", "annotation store, sqlite:PATH or postgres://… (default: "+folder.Annotations+
		" in the data folder)")
	flags.StringVar(&to, "to", "", "write a new file instead of standard output")
	flags.BoolVar(&force, "force", false, "write over an existing file")
	flags.StringVar(&discontinuous, "discontinuous", chained, "how annotations of several parts are written: as a "+chained+
		" or, as span arrays, a "+bagged)
	return verb
}

// How annotations of several parts are written.
const (
	chained = "chain"
	bagged  = "bag"
)

// writers append an item to a line.
var writers = map[string]func(*annotation.Item, []byte) []byte{
	chained: (*annotation.Item).AppendJSON,
	bagged:  (*annotation.Item).AppendBaggedJSON,
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

func (p *program) exportTo(ctx context.Context, dsn, project string, write func(*annotation.Item, []byte) []byte, to string, force bool) (int64, error) {
	if to == "" || to == stdinName {
		return export(ctx, dsn, project, write, p.stdout)
	}
	out, err := create(to, force)
	if err != nil {
		return 0, err
	}
	n, err := export(ctx, dsn, project, write, out)
	return n, errors.Join(err, out.Close())
}

// export writes the documents of a project and returns their number.
func export(ctx context.Context, dsn, project string, write func(*annotation.Item, []byte) []byte, w io.Writer) (int64, error) {
	st, err := open.Open(ctx, dsn)
	if err != nil {
		return 0, err
	}
	var n int64
	var line []byte
	out := bufio.NewWriterSize(w, exportBuffer)
	err = st.Export(ctx, project, func(it *annotation.Item) error {
		n++
		line = append(write(it, line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	})
	return n, errors.Join(err, out.Flush(), st.Close())
}
