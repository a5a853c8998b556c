package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/folder"
	"github.com/tallyman-dev/tallyman/server"
	"github.com/tallyman-dev/tallyman/server/access"
	"github.com/tallyman-dev/tallyman/server/store"
)

func (p *program) tokenVerb() *cobra.Command {
	var database string
	verb := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens by which a coordinator knows its callers",
		Long: `Make, list and revoke tokens. They are in the coordinator's database: that of the data folder, or the one that
--database names. So who may open the database makes tokens, and no token makes another one. Coordinators, also those that
run, learn of what changes within seconds.`,
		Example: `  tallyman token create ann --role submitter --project my-corpus > ann.token
  tallyman token list
  tallyman token revoke 7`,
	}
	verb.PersistentFlags().StringVar(&database, "database", "", "postgres://… (default: the embedded one of the data folder)")
	verb.AddCommand(p.createTokenVerb(&database), p.listTokensVerb(&database), p.revokeTokenVerb(&database))
	return verb
}

func (p *program) createTokenVerb(database *string) *cobra.Command {
	var n server.NewToken
	var role string
	verb := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Make a token and show it, once",
		Long: `Make a token and write it to standard output: the only time that it can be seen, since its hash alone is kept. Give
it to its holder in TALLYMAN_TOKEN or as a file for --token-file.

Roles: viewer sees everything and changes nothing; submitter also uploads, cancels, retries and deletes jobs; worker claims
and settles batches; admin may do everything. Viewers and submitters may be confined to projects.

Tokens of one name are of one and the same: to replace one make another of its name, hand it out, then revoke the old.`,
		Example: `  tallyman token create ann --role submitter --project my-corpus --expires 90d
  tallyman token create farm --role worker --database postgres://tallyman@db/tallyman > farm.token`,
		Args: cobra.ExactArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			n.Name, n.Role = args[0], access.Role(role)
			if err := n.Validate(); err != nil {
				return usageError("%w", err)
			}
			return p.withTokens(verb.Context(), *database, func(ctx context.Context, tokens *server.Tokens) error {
				secret, kept, err := tokens.Create(ctx, n)
				if err != nil {
					return err
				}
				if p.format() == display.JSON {
					return p.writeToken(kept, secret)
				}
				fmt.Fprintln(p.stdout, secret)
				fmt.Fprintf(p.stderr, "token %d of %s, role %s, %s; it is shown this once only\n", kept.ID, kept.Name, kept.Role, expiry(kept))
				return nil
			})
		},
	}
	flags := verb.Flags()
	flags.StringVar(&role, "role", "", "viewer, submitter, worker or admin")
	flags.StringSliceVar(&n.Projects, "project", nil, "confine it to this project; may be given several times (default: all)")
	spanVar(flags, &n.Lifetime, "expires", 0, "for how long it is good, such as 90d; 0 for ever")
	return verb
}

func (p *program) listTokensVerb(database *string) *cobra.Command {
	var all bool
	verb := &cobra.Command{
		Use:   "list",
		Short: "List the tokens that are valid, newest first",
		Long: `List the tokens that are valid, newest first: who holds each, what they may do and until when. The tokens themselves
are not kept.`,
		Example: `  tallyman token list
  tallyman token list --all -o json --database postgres://tallyman@db/tallyman`,
		Args: cobra.NoArgs,
		RunE: func(verb *cobra.Command, _ []string) error {
			return p.withTokens(verb.Context(), *database, func(ctx context.Context, tokens *server.Tokens) error {
				list, err := tokens.List(ctx, all)
				if err != nil {
					return err
				}
				if p.format() == display.JSON {
					for _, t := range list {
						if err := p.writeToken(t, ""); err != nil {
							return err
						}
					}
					return nil
				}
				table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "ID\tNAME\tROLE\tPROJECTS\tCREATED\tSTATE")
				for _, t := range list {
					fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", t.ID, display.Clean(t.Name), t.Role, projectsOf(t),
						t.CreatedAt.Format(time.DateOnly), expiry(t))
				}
				return table.Flush()
			})
		},
	}
	verb.Flags().BoolVar(&all, "all", false, "also what was revoked or has expired")
	return verb
}

func (p *program) revokeTokenVerb(database *string) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID...",
		Short:   "Make tokens invalid, for ever",
		Long:    `Make tokens invalid, for ever, by their numbers in "tallyman token list". What is done with them ends within seconds.`,
		Example: `  tallyman token revoke 7`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(verb *cobra.Command, args []string) error {
			ids, err := parseIDs("token", args)
			if err != nil {
				return err
			}
			return p.withTokens(verb.Context(), *database, func(ctx context.Context, tokens *server.Tokens) error {
				for _, id := range ids {
					t, err := tokens.Revoke(ctx, id)
					if errors.Is(err, store.ErrNotFound) {
						return fmt.Errorf("there is no token %d", id)
					}
					if err != nil {
						return err
					}
					if p.format() == display.JSON {
						if err := p.writeToken(t, ""); err != nil {
							return err
						}
						continue
					}
					fmt.Fprintf(p.stdout, "token %d of %s is revoked\n", id, display.Clean(t.Name))
				}
				return nil
			})
		},
	}
}

// withTokens runs f with the tokens of a database, or else of the data folder, whether a server serves that or not.
func (p *program) withTokens(ctx context.Context, database string, f func(context.Context, *server.Tokens) error) error {
	logger, err := p.logger(p.stderr, slog.LevelWarn)
	if err != nil {
		return err
	}
	config := serverConfig(logger)
	config.Database = database
	if database == "" {
		lock, err := folder.Acquire(ctx, p.data, lockWait)
		if _, held := errors.AsType[*folder.HeldError](err); err != nil && !held {
			return err
		}
		if lock != nil {
			defer lock.Release() //nolint:errcheck // it ends with the process anyway
		}
		config.Database, config.Migrate = folder.DSN(p.data, folder.Database), err == nil
	}
	if err := config.Validate(); err != nil {
		return usageError("%w", err)
	}
	tokens, err := server.OpenTokens(ctx, config)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, tokens), tokens.Close())
}

// writeToken writes a token as a line of JSON.
func (p *program) writeToken(t store.Token, secret string) error {
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(time.RFC3339)
	}
	return json.NewEncoder(p.stdout).Encode(struct {
		ID        string   `json:"id"`
		Name      string   `json:"name"`
		Role      string   `json:"role"`
		Projects  []string `json:"projects"`
		CreatedAt string   `json:"created_at"`
		ExpiresAt string   `json:"expires_at"`
		RevokedAt string   `json:"revoked_at"`
		Valid     bool     `json:"valid"`
		Token     string   `json:"token,omitempty"`
	}{
		strconv.FormatInt(t.ID, 10), t.Name, t.Role, append([]string{}, t.Projects...), moment(t.CreatedAt), moment(t.ExpiresAt),
		moment(t.RevokedAt), t.Valid, secret,
	})
}

func projectsOf(t store.Token) string {
	if len(t.Projects) == 0 {
		return "all"
	}
	return strings.Join(t.Projects, ",")
}

// expiry says how long a token is good.
func expiry(t store.Token) string {
	switch {
	case !t.RevokedAt.IsZero():
		return "revoked " + t.RevokedAt.Format(time.DateOnly)
	case !t.Valid:
		return "expired " + t.ExpiresAt.Format(time.DateOnly)
	case t.ExpiresAt.IsZero():
		return "valid for ever"
	}
	return "valid until " + t.ExpiresAt.Format(time.DateOnly)
}
