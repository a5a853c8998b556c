package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// sourceDateEpoch is the variable by which builds that can be repeated say what time it is, in seconds since 1970
// (https://reproducible-builds.org/docs/source-date-epoch/). The package of manual pages reads it.
const sourceDateEpoch = "SOURCE_DATE_EPOCH"

func (p *program) manVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "man FOLDER",
		Short: "Write the manual pages into a folder",
		Long: `Write a manual page for each verb into a folder, which is made if it is not there: tallyman.1, tallyman-run.1 and so on.
They bear the date of ` + sourceDateEpoch + `, or of today.`,
		Example: `  tallyman man ~/.local/share/man/man1
  tallyman man man1 && man -l man1/tallyman-run.1`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the folder of manual pages: %w", err)
			}
			root := verb.Root()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Title: "TALLYMAN", Section: "1", Source: "Tallyman " + programVersion(), Manual: "Tallyman"}
			if _, said := os.LookupEnv(sourceDateEpoch); !said {
				now := time.Now()
				header.Date = &now
			}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "tallyman*.1"))
			if err != nil {
				return fmt.Errorf("count manual pages: %w", err)
			}
			fmt.Fprintf(p.stdout, "%d manual pages are in %s\n", len(pages), args[0])
			return nil
		},
	}
}
