package main

import (
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/tallyman-dev/tallyman/cmd/tallyman/internal/display"
)

// span is the value of a flag for a length of time: as Go writes durations, with days and weeks before, such as 90m, 7d
// or 1w2d12h.
type span time.Duration

var _ pflag.Value = (*span)(nil)

const day = 24 * time.Hour

// maxDays bounds a span to a hundred years, or about.
const maxDays = 36_500

var leadingDays = regexp.MustCompile(`^(\d+(?:\.\d+)?)([dw])`)

var errSpan = errors.New("want a length of time such as 90s, 24h or 7d")

// Set implements pflag.Value.
func (s *span) Set(text string) error {
	var total time.Duration
	rest := text
	for match := leadingDays.FindStringSubmatch(rest); match != nil; match = leadingDays.FindStringSubmatch(rest) {
		n, err := strconv.ParseFloat(match[1], 64)
		if match[2] == "w" {
			n *= 7
		}
		if err != nil || n > maxDays {
			return errSpan
		}
		total += time.Duration(n * float64(day))
		rest = rest[len(match[0]):]
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return errSpan
		}
		total += d
	}
	if total > maxDays*day {
		return errSpan
	}
	*s = span(total)
	return nil
}

// String implements pflag.Value.
func (s *span) String() string { return display.Span(time.Duration(*s)) }

// Type implements pflag.Value.
func (s *span) Type() string { return "duration" }

// spanVar adds a flag for a length of time.
func spanVar(flags *pflag.FlagSet, into *time.Duration, name string, value time.Duration, usage string) {
	*into = value
	flags.Var((*span)(into), name, usage)
}
