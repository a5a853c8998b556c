package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
)

func (p *program) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  tallyman version
  tallyman version -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			about := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{programVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if p.format() == display.JSON {
				return display.WriteValue(p.stdout, about)
			}
			fmt.Fprintf(p.stdout, "tallyman %s (%s, %s)\n", about.Version, about.Go, about.Platform)
			return nil
		},
	}
}
