package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/payload"
	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// A finding about a culprit has the last thing that its process said, not what a shell said about that.
func TestCulpritLastWords(t *testing.T) {
	t.Parallel()
	const twice = "It killed the process that handled it, twice: "
	for stderr, want := range map[string]string{
		"":                                  "the command died",
		"\n \n":                             "the command died",
		"one\ntwo\n":                        "the command died; its last words: two",
		"bad glyph\n\nSegmentation fault\n": "the command died; its last words: bad glyph",
		"bad glyph\nSegmentation fault (core dumped)\n": "the command died; its last words: bad glyph",
		"Segmentation fault\n":                          "the command died",
	} {
		end := &job.End{Message: "the command died", Crash: &job.Crash{Signal: "the command died", Stderr: stderr}}
		if diff := cmp.Diff(twice+want, store.Culprit(&payload.Item{Number: 1}, 1, 1, end).Message); diff != "" {
			t.Errorf("after %q (-want +got):\n%s", stderr, diff)
		}
	}
}
