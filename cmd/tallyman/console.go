package main

import (
	"bufio"
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
)

// parseIDs reads the numbers that a verb's arguments are.
func parseIDs(what string, args []string) ([]int64, error) {
	ids := make([]int64, len(args))
	for i, arg := range args {
		id, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || id <= 0 {
			return nil, usageError("%q is no number of a %s", arg, what)
		}
		ids[i] = id
	}
	return ids, nil
}

// named lists what a question is about.
func named(what string, ids []string) string {
	if len(ids) > 1 {
		what += "s"
	}
	return what + " " + strings.Join(ids, ", ")
}

// confirm asks on a terminal. Elsewhere nobody could answer, so that --yes is needed.
func (p *program) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(p.stdin) {
		return usageError("not on a terminal: say --yes to do it without being asked")
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	fmt.Fprintln(p.stderr, "nothing was done")
	return &exitError{code: exitOther}
}

// show writes one message, as JSON or for people. It has no table, and so no TSV either.
func (p *program) show(m proto.Message, table func() error) error {
	switch p.format() {
	case display.JSON:
		return display.WriteJSON(p.stdout, m)
	case display.TSV:
		return errNoTSV
	default:
		return table()
	}
}

// list writes a list, at most limit entries if that is above 0, and says where there are none or more.
func list[T proto.Message](p *program, columns display.List[T], entries iter.Seq2[T, error], limit int) error {
	n, more, err := columns.Write(p.stdout, p.format(), entries, limit)
	switch {
	case err != nil:
		return err
	case n == 0 && p.format() == display.Table:
		fmt.Fprintln(p.stderr, "there are none")
	case more:
		fmt.Fprintf(p.stderr, "only the first %d are listed; --limit 0 lists all\n", limit)
	}
	return nil
}

// where returns the flags, with a space before them, by which another command finds the same coordinator.
func (p *program) where(verb *cobra.Command) string {
	var where string
	if p.server != "" {
		where += " --server " + quoted(p.server)
	}
	if verb.Flags().Changed("data") {
		where += " --data " + quoted(p.data)
	}
	return where
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// quoted makes an argument of a shell.
func quoted(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// namedJob returns the job that an argument or --job names, 0 when neither does, and refuses two different ones.
func namedJob(args []string, flag int64) (int64, error) {
	ids, err := parseIDs("job", args)
	if err != nil || len(ids) == 0 {
		return flag, err
	}
	if flag != 0 && flag != ids[0] {
		return 0, usageError("job %d and --job %d: name one", ids[0], flag)
	}
	return ids[0], nil
}
