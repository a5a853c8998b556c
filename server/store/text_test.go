package store

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCleanText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		most     int
		want     string
	}{
		{"clean", "naïve", 10, "naïve"},
		{"empty", "", 10, ""},
		{"nul", "a\x00b", 10, "a\uFFFDb"},
		{"invalid", "a\xff\xfeb", 10, "a\uFFFDb"},
		{"cut between characters", "aäöü", 4, "aä"},
		{"cut at a boundary", "aäöü", 5, "aäö"},
		{"no room", "ä", 1, ""},
		{"continuation bytes only", strings.Repeat("\x80", 9), 6, "\uFFFD"},
		{"replacements grow", "\x00\x00\x00", 3, "\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := CleanText(c.in, c.most); got != c.want {
				t.Errorf("CleanText(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
			}
		})
	}
}

func TestCleanTextProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "in"))
		most := rapid.IntRange(0, 64).Draw(t, "most")
		got := CleanText(in, most)
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > most {
			t.Fatalf("CleanText(%q, %d) = %q", in, most, got)
		}
		if again := CleanText(got, most); again != got {
			t.Fatalf("CleanText is not idempotent: %q, then %q", got, again)
		}
		if utf8.ValidString(in) && !strings.Contains(in, "\x00") && len(in) <= most && got != in {
			t.Fatalf("CleanText(%q, %d) = %q changes a clean text", in, most, got)
		}
	})
}
