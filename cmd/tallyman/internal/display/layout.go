package display

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tallyman-dev/tallyman/client"
	tallymanv1 "github.com/tallyman-dev/tallyman/proto/tallyman/v1"
)

// minBar is the narrowest bar that says anything, with its ends and the spaces around it; percentWidth is what the per
// cent beside it take. Both are in characters.
const (
	minBar       = 12
	percentWidth = 6
)

// shortName is to how many characters a file's name is cut before the text beside the bar is.
const shortName = 16

// layout chooses what stands before and behind a job's bar, so that the bar is seen in a terminal of that width: the
// longest that fits. What is least needed goes first.
func layout(job *tallymanv1.Job, width int) (name, text string) {
	number := fmt.Sprintf("job %d", job.GetJobId())
	file := Clean(job.GetFileName())
	names := []string{number + " " + file, number + " " + shorten(file, shortName), number}
	texts := shorter(job)
	try := func(n, t string) bool {
		name, text = n, t
		return utf8.RuneCountInString(n)+minBar+percentWidth+utf8.RuneCountInString(t) <= width
	}
	for _, t := range texts[:min(2, len(texts))] {
		for _, n := range names[:2] {
			if try(n, t) {
				return name, text
			}
		}
	}
	for _, t := range texts {
		if try(number, t) {
			return name, text
		}
	}
	return number, "" // the per cent say the most
}

// shorten cuts the middle out of a text that is longer than most characters.
func shorten(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	tail := most / 2
	return string(runes[:most-tail-1]) + "…" + string(runes[len(runes)-tail:])
}

// shorter returns texts about a job, from all that describe says to little.
func shorter(job *tallymanv1.Job) []string {
	p := job.GetProgress()
	texts := []string{" " + phase(job) + ", " + describe(job)}
	counts := fmt.Sprintf("%s of %s", Number(p.GetItemsEnded()), Plural(p.GetItemsTotal(), "item"))
	var left, wrong string
	if p.GetEta() != nil && !client.Ended(job.GetState()) {
		left = ", " + eta(p.GetEta().AsDuration()) + " left"
	}
	if n := errorsOf(p); n > 0 {
		wrong = ", " + Plural(n, "error")
	}
	state := ""
	if job.GetState() != tallymanv1.JobState_JOB_STATE_RUNNING {
		state = " " + phase(job) + ","
	}
	for _, text := range []string{
		state + " " + counts + wrong + left, state + " " + counts + wrong, " " + counts + wrong, " " + counts,
		" " + Number(p.GetItemsEnded()) + "/" + Number(p.GetItemsTotal()),
	} {
		if text != texts[len(texts)-1] {
			texts = append(texts, strings.TrimRight(text, " "))
		}
	}
	return texts
}
