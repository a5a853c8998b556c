package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/annotation/store/open"
	"github.com/tallyman-dev/tallyman/server"
)

func (p *program) migrateVerb() *cobra.Command {
	var database, storeDSN string
	verb := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of a database up to date",
		Long: `Bring the schema of a coordinator's database up to date, and that of an annotation store where one is named. serve
refuses an older schema; the embedded database migrates itself, and so does an annotation store that a worker opens.`,
		Example: `  tallyman migrate --database postgres://tallyman@db/tallyman
  tallyman migrate --database postgres://tallyman@db/tallyman --store postgres://tallyman@db/annotations`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			if database == "" && storeDSN == "" {
				return usageError("--database is needed: postgres://…")
			}
			logger, err := p.logger(p.stderr, slog.LevelInfo)
			if err != nil {
				return err
			}
			if database != "" {
				config := serverConfig(logger)
				config.Database = database
				done, err := server.Migrate(verb.Context(), config)
				if err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, done)
			}
			if storeDSN != "" {
				st, err := open.Open(verb.Context(), storeDSN)
				if err != nil {
					return err
				}
				if err := st.Close(); err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, "the annotation store is up to date")
			}
			return nil
		},
	}
	verb.Flags().StringVar(&database, "database", "", "the coordinator's database, postgres://…")
	verb.Flags().StringVar(&storeDSN, "store", "", "an annotation store, sqlite:PATH or postgres://…")
	return verb
}
