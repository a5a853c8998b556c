package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/sample"
)

func (p *program) sampleVerb() *cobra.Command {
	var config sample.Config
	var force bool
	verb := &cobra.Command{
		Use:   "sample [FILE]",
		Short: "Generate an annotation collection of any size, bad items included",
		Long:  `Generate an annotation collection, the same for the same flags, on standard output or in a new file.`,
		Example: `  tallyman sample --documents 2000 --bad 5 sample.jsonl
  tallyman sample --documents 1000000 --seed 7 | gzip > large.jsonl.gz`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := config.Validate(); err != nil {
				return usageError("%w", err)
			}
			made, err := p.generate(args, force, config)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stderr, "%s items, of which %d bad, on %s documents with %s annotations: %s bytes\n",
				display.Number(made.Items), made.Bad, display.Number(made.Documents), display.Number(made.Annotations),
				display.Number(made.Bytes))
			return nil
		},
	}
	flags := verb.Flags()
	flags.IntVar(&config.Documents, "documents", 1000, "good documents")
	flags.IntVar(&config.Bad, "bad", 0, "items that validation must reject, besides")
	flags.Uint64Var(&config.Seed, "seed", 0, "another seed makes another collection")
	flags.IntVar(&config.Annotations, "annotations", 0, "mean number of annotations of an item (default 20)")
	flags.IntVar(&config.Passages, "passages", 0, "passages of every tenth document (default 3)")
	flags.BoolVar(&force, "force", false, "write over an existing file")
	return verb
}

func (p *program) generate(args []string, force bool, config sample.Config) (sample.Summary, error) {
	if len(args) == 0 || args[0] == stdinName {
		return sample.Generate(p.stdout, config)
	}
	out, err := create(args[0], force)
	if err != nil {
		return sample.Summary{}, err
	}
	made, err := sample.Generate(out, config)
	return made, errors.Join(err, out.Close())
}

// create makes a file that was not there, unless forced.
func create(path string, force bool) (io.WriteCloser, error) {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	out, err := os.OpenFile(path, mode, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists; --force writes over it", path)
	}
	return out, err
}
