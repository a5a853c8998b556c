package ingest

import "bytes"

// expectation is what may stand next in a JSON value.
type expectation uint8

const (
	aValue expectation = iota
	aValueOrEnd
	aKey
	aKeyOrEnd
	aColon
	aCommaOrEnd
)

// progress is how far a scanner has come with its value.
type progress uint8

const (
	more    progress = iota // the value goes on
	done                    // it has ended
	damaged                 // it goes on with what cannot stand there
	lost                    // where it ends cannot be known
)

// scanner finds the end of a JSON value: an object, an array or a string. It takes the value's bytes in pieces of any
// length, once, and checks its structure, but neither numbers nor literals nor escapes, which have no say in where it
// ends. Where the structure is damaged it stops, and may go on in one of two ways:
//
//   - along the lines, when the values before it stood in lines of their own: the value ends before the next line that
//     begins as theirs did.
//   - along the brackets: strings are skipped, and a bracket that closes one further out closes those in it too. This is
//     given up at a line end within a string: a quotation mark is missing, and what is inside strings and what outside
//     are exchanged.
//
// Either way the value is bad, and only its end matters.
type scanner struct {
	nesting nesting
	expect  expectation
	key     bool // the string is that of a key
	string  bool // inside a string
	escaped bool // behind a backslash in it
	scalar  bool // inside a number or a literal
	along   recovery

	fresh  bool // nothing but white space stands before in the line
	column int  // how much white space that is
	indent int  // of the lines that values begin at, -1 when unknown
	array  bool // the value is an element
	ragged bool // a line within a value begins as those do
}

// recovery is how a scanner goes on behind a damage.
type recovery uint8

const (
	undamaged recovery = iota
	alongLines
	alongBrackets
)

// begin makes the scanner ready for a value.
func (s *scanner) begin(indent int, inArray bool) {
	s.nesting.reset()
	*s = scanner{nesting: s.nesting, indent: indent, array: inArray}
}

// feed takes the bytes of the value that follow those it took. It returns how many it took; when the value is done, b[n]
// is the first behind it; when it is damaged, the first that cannot stand there.
func (s *scanner) feed(b []byte) (n int, p progress) {
	if s.along == alongLines {
		return s.feedLines(b)
	}
	for n < len(b) {
		if s.string {
			n += s.inside(b[n:])
			if n == len(b) {
				return n, more
			}
			if b[n] == '\n' {
				if s.along == alongBrackets {
					return n, lost
				}
				return n, damaged
			}
			n++
			if !s.string && s.nesting.depth == 0 {
				return n, done
			}
			continue
		}
		c := b[n]
		if c == ' ' || c == '\n' || c == '\t' || c == '\r' {
			s.space(c)
			n++
			continue
		}
		if s.along == alongBrackets {
			if taken := s.bracket(c); !taken {
				return n, done
			}
		} else if !s.take(c) {
			return n, damaged
		}
		n++
		if s.nesting.depth == 0 && !s.string {
			return n, done
		}
	}
	return n, more
}

// inside passes over the bytes of a string up to a line end, or its own end, which it takes note of.
func (s *scanner) inside(b []byte) int {
	for i, c := range b {
		switch {
		case ordinary[c] && !s.escaped:
		case c == '\n':
			return i
		case s.escaped:
			s.escaped = false
		case c == '\\':
			s.escaped = true
		case c == '"':
			s.string = false
			s.expect = aCommaOrEnd
			if s.key {
				s.expect = aColon
			}
			return i
		}
	}
	return len(b)
}

// ordinary are the bytes that mean nothing in a string.
var ordinary = func() (table [256]bool) {
	for i := range table {
		table[i] = i != '"' && i != '\\' && i != '\n'
	}
	return table
}()

func (s *scanner) space(c byte) {
	s.scalar = false
	switch {
	case c == '\n':
		s.fresh, s.column = true, 0
	case s.fresh:
		s.column++
	}
}

// take takes a byte outside of strings, unless it cannot stand there.
func (s *scanner) take(c byte) bool {
	value := s.expect == aValue || s.expect == aValueOrEnd
	scalar := s.scalar
	s.scalar = false
	switch c {
	case '{', '[':
		if !value || s.nesting.depth == maxNesting {
			return false
		}
		if c == '{' && s.fresh && s.column == s.indent {
			s.ragged = true
		}
		s.nesting.push(c == '[')
		s.expect = aKeyOrEnd
		if c == '[' {
			s.expect = aValueOrEnd
		}
	case '}', ']':
		end := s.expect == aCommaOrEnd || s.expect == aKeyOrEnd || s.expect == aValueOrEnd
		if !end || !s.nesting.in(c == ']') {
			return false
		}
		s.nesting.pop()
		s.expect = aCommaOrEnd
	case ',':
		if s.expect != aCommaOrEnd || s.nesting.depth == 0 {
			return false
		}
		s.expect = aKey
		if s.nesting.in(true) {
			s.expect = aValue
		}
	case ':':
		if s.expect != aColon {
			return false
		}
		s.expect = aValue
	case '"':
		s.key = s.expect == aKey || s.expect == aKeyOrEnd
		if !value && !s.key {
			return false
		}
		s.string = true
	default:
		if !value && !scalar {
			return false
		}
		s.scalar, s.expect = true, aCommaOrEnd
	}
	s.fresh = false
	return true
}

// bracket takes a byte of a damaged value outside of strings, unless it closes what lies around the value.
func (s *scanner) bracket(c byte) bool {
	switch c {
	case '{', '[':
		s.nesting.push(c == '[')
	case '}', ']':
		return s.nesting.popTo(c == ']')
	case '"':
		s.string = true
	}
	return true
}

// recover chooses the way on behind a damage.
func (s *scanner) recover(lines bool) {
	s.along = alongBrackets
	if lines {
		s.along = alongLines
	}
}

// feedLines is done before the next line that begins as a value does, or with the bracket around all of them.
func (s *scanner) feedLines(b []byte) (int, progress) {
	for i := 0; i < len(b); i++ {
		if !s.fresh {
			end := bytes.IndexByte(b[i:], '\n')
			if end < 0 {
				return len(b), more
			}
			i += end
			s.fresh, s.column = true, 0
			continue
		}
		switch c := b[i]; {
		case c == '\n':
			s.column = 0
		case c == ' ', c == '\t', c == '\r':
			s.column++
		case c == '{' && s.column == s.indent, c == ']' && s.array && s.column <= s.indent:
			return i, done
		default:
			s.fresh = false
		}
	}
	return len(b), more
}
