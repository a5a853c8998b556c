package ingest

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxPlace is how long the place of a file may be, in bytes: the names of archives and of what is in them. It is what is
// kept of a finding's place, which must not be shortened.
const maxPlace = 4 << 10

// readableName returns an entry's name as places give it: valid UTF-8 without control characters, cleaned of "./".
func readableName(name string) string {
	name = strings.ToValidUTF8(name, string(utf8.RuneError))
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, name)
	if len(name) > maxPlace {
		name = strings.ToValidUTF8(name[:maxPlace], "") + "…"
	}
	if name == "" {
		return "?"
	}
	return path.Clean(name)
}

// nameProblem says what is wrong with an entry's name, as the end of a sentence; "" for nothing. Both kinds of slash
// separate, since it may have been made anywhere.
func nameProblem(name string) string {
	slashed := strings.ReplaceAll(name, `\`, "/")
	switch {
	case name == "":
		return "it has no name"
	case strings.HasPrefix(slashed, "/"), len(slashed) > 2 && slashed[1:3] == ":/" && isLetter(slashed[0]):
		return "its name is an absolute path"
	}
	for part := range strings.SplitSeq(slashed, "/") {
		if part == ".." {
			return `its name leads out of the archive by ".."`
		}
	}
	return ""
}

// isJunk reports whether an entry is what an operating system adds for itself.
func isJunk(name string) bool {
	base := name
	for part := range strings.SplitSeq(strings.ReplaceAll(name, `\`, "/"), "/") {
		if part == "__MACOSX" {
			return true
		}
		base = part
	}
	return strings.HasPrefix(base, "._") || base == ".DS_Store"
}
