package display

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// isUnsafe reports whether a character must not reach a terminal: controls, and those that change the direction of what
// stands around them.
func isUnsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar
}

// Word returns the name of an enum's value as people and flags have it: completed_with_errors.
func Word[E interface {
	~int32
	fmt.Stringer
}](prefix string, value E) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

// JobState returns the name of a state.
func JobState(s tallymanv1.JobState) string { return Word("JOB_STATE_", s) }

// BatchState returns the name of a state.
func BatchState(s tallymanv1.BatchState) string { return Word("BATCH_STATE_", s) }

// Outcome returns the name of an outcome.
func Outcome(o tallymanv1.Outcome) string { return Word("OUTCOME_", o) }

// Severity returns the name of a severity.
func Severity(s tallymanv1.Severity) string { return Word("SEVERITY_", s) }

// AttemptEnd returns how an attempt ended.
func AttemptEnd(e tallymanv1.AttemptEnd) string { return Word("ATTEMPT_END_", e) }

// ParseEnum returns the values of an enum that names, such as running, stand for.
func ParseEnum[E ~int32](what, prefix string, values map[string]int32, names []string) ([]E, error) {
	var parsed []E
	for _, name := range names {
		key := prefix + strings.ToUpper(strings.NewReplacer("-", "_", " ", "_").Replace(strings.TrimSpace(name)))
		value, ok := values[key]
		if !ok || value == 0 {
			return nil, fmt.Errorf("%q is no %s: choose among %s", name, what, strings.Join(EnumNames(prefix, values), ", "))
		}
		parsed = append(parsed, E(value))
	}
	return parsed, nil
}

// EnumNames returns the names of the values of an enum, without the one that means nothing.
func EnumNames(prefix string, values map[string]int32) []string {
	names := make([]string, len(values))
	for name, value := range values {
		names[value] = strings.ToLower(strings.TrimPrefix(name, prefix))
	}
	return names[1:] // the first is never sent
}

// spaced makes a name one for a sentence.
func spaced(word string) string { return strings.ReplaceAll(word, "_", " ") }

// Number writes n with a comma every three digits.
func Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Percent writes the share of part in whole.
func Percent(part, whole int64) string {
	if whole == 0 {
		return "-"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

// Duration writes d with as much precision as is of use.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// Span writes a length of time that somebody chose, without units that are zero: 7d, 90m, 1h30m.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// protoDuration writes a duration, "-" without one.
func protoDuration(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return Duration(d.AsDuration())
}

// Time writes a time in the local zone, "-" without one.
func Time(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format(time.RFC3339)
}

// ago writes how long ago a time was, in whole seconds, "-" without one.
func ago(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return Span(max(time.Since(t.AsTime()), 0).Round(time.Second)) + " ago"
}

// between writes the time from begin to end, "-" while one is not known.
func between(begin, end *timestamppb.Timestamp) string {
	if begin == nil || end == nil {
		return "-"
	}
	return Duration(end.AsTime().Sub(begin.AsTime()))
}

// Bytes writes a size in the largest unit of which there is one.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1<<10 {
		value, unit = value/(1<<10), unit+1
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[unit:unit+1] + "iB"
}

// Plural writes a number with its noun.
func Plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "ch") {
		return Number(n) + " " + noun + "es"
	}
	return Number(n) + " " + noun + "s"
}
