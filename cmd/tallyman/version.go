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
			if p.format() == display.JSON {
				return display.WriteValue(p.stdout, about())
			}
			fmt.Fprint(p.stdout, about().line())
			return nil
		},
	}
}

// build says which program this is.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func about() build {
	return build{programVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

func (b build) line() string {
	return fmt.Sprintf("tallyman %s (%s, %s)\n", b.Version, b.Go, b.Platform)
}
