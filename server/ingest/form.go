package ingest

import (
	"bytes"
	"encoding/json"
)

// sniffLine is how much of a file's first line is looked at to tell how its values are written, in bytes.
const sniffLine = 1 << 20

// form is how the values of a file are written.
type form int

const (
	undecided  form = iota // what follows the first line must be seen
	jsonLines              // one value a line
	jsonValues             // the elements of arrays, or objects one after another
	otherForm              // something else
)

// formOf tells, by the first line that is not blank, how the values of a file are written, if that line alone tells. A
// bad item is still an item: this asks what the file was meant to be. Whole says that line is all of it.
func formOf(line []byte, whole bool) form {
	line = bytes.Trim(line, jsonSpace)
	switch line[0] {
	case '{':
		end, depth, inString := brackets(line)
		switch rest := bytes.TrimLeft(line[end:], jsonSpace+","); {
		case end < len(line) && len(rest) > 0 && rest[0] == '{':
			return jsonValues
		case whole && depth > 0 && !inString:
			return undecided
		}
		return jsonLines
	case '[':
		if !whole {
			return jsonValues
		}
		return undecided
	}
	// Of a long string the end is not seen.
	if whole && json.Valid(line) || !whole && line[0] == '"' {
		return jsonLines
	}
	return undecided
}

// formBefore tells the form by the first line, which alone does not tell, and what follows it. Objects says that only
// objects are items, so that lines of arrays are arrays of items.
func formBefore(line []byte, ahead []byte, objects bool) form {
	line = bytes.Trim(line, jsonSpace)
	next := firstLine(ahead)
	switch line[0] {
	case '{':
		// The line opens a value. An object in the next line says that it was only broken off.
		if len(next) == 0 || next[0] == '{' && !bytes.HasSuffix(line, []byte("[")) {
			return jsonLines
		}
		end, depth, _ := brackets(next)
		if next[0] == '{' && depth == 0 && end == len(next) {
			return jsonLines
		}
		return jsonValues
	case '[':
		first := bytes.TrimLeft(line[1:], jsonSpace)
		if len(first) == 0 {
			first = next
		}
		items := len(first) > 0 && first[0] == '{'
		end, depth, _ := brackets(line)
		switch {
		case depth > 0:
			// Broken off, if the next line is another of its kind.
			if len(next) > 0 && next[0] == '[' && !items && !opensMore(line) {
				return jsonLines
			}
		case len(next) > 0 && end == len(line):
			// Complete, with others behind it.
			if !items || !objects {
				return jsonLines
			}
		}
		return jsonValues
	}
	if anyObject(ahead) {
		return jsonLines
	}
	return otherForm
}

// opensMore reports whether a line ends as one of a pretty-printed value does: inside it, and not inside a string.
func opensMore(line []byte) bool {
	switch line[len(line)-1] {
	case '{', '[', ',', ':':
		_, depth, inString := brackets(line)
		return depth > 0 && !inString
	}
	return false
}

// brackets returns where the brackets of a piece of JSON are all closed for the first time, else its end; how many are
// open there; and whether that is inside a string.
func brackets(b []byte) (end, depth int, inString bool) {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			if depth--; depth <= 0 {
				return i + 1, depth, false
			}
		}
	}
	return len(b), depth, inString
}

// firstLine returns the first line that is not blank, trimmed; nil when there is none.
func firstLine(b []byte) []byte {
	for line := range bytes.Lines(b) {
		if line = bytes.Trim(line, jsonSpace); len(line) > 0 {
			return line
		}
	}
	return nil
}

// anyObject reports whether a line begins as an item does.
func anyObject(b []byte) bool {
	for line := range bytes.Lines(b) {
		line = bytes.TrimLeft(line, " \t")
		if bytes.HasPrefix(line, []byte(`{"`)) || bytes.HasPrefix(line, []byte("{}")) {
			return true
		}
	}
	return false
}
