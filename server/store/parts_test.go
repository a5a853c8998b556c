package store_test

import (
	"testing"
	"time"

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

// Another worker is one that serves the kind, and was heard of lately.
func TestOthers(t *testing.T) {
	kinds := []string{"ner", "annotations"}
	for name, c := range map[string]struct {
		workers []store.Colleague
		want    bool
	}{
		"nobody":              {nil, false},
		"itself":              {[]store.Colleague{{ID: "a", Kinds: kinds}}, false},
		"another one":         {[]store.Colleague{{ID: "a", Kinds: kinds}, {ID: "b", Kinds: kinds}}, true},
		"one of another kind": {[]store.Colleague{{ID: "b", Kinds: kinds[1:]}}, false},
		"one that is silent":  {[]store.Colleague{{ID: "b", Kinds: kinds, Silent: 31 * time.Second}}, false},
		"one heard just now":  {[]store.Colleague{{ID: "b", Kinds: kinds, Silent: 30 * time.Second}}, true},
	} {
		if got := store.Others(c.workers, "a", "ner"); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// A solo batch goes to a session that holds nothing, which is given nothing else.
func TestMatchSolo(t *testing.T) {
	solo, other := store.Choosy{Solo: true}, store.Choosy{}
	claimants := []store.Claimant{{Session: 1, Worker: "a", Held: 1, Room: 5}, {Session: 2, Worker: "b", Room: 5}}
	if diff := cmp.Diff([]int{1, 0, -1}, store.Match([]store.Choosy{solo, other, solo}, claimants)); diff != "" {
		t.Errorf("given to (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{-1}, store.Match([]store.Choosy{other}, claimants[1:])); diff != "" {
		t.Errorf("given to the one that has the solo batch (-want +got):\n%s", diff)
	}
}
