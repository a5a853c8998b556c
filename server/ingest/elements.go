package ingest

import (
	"bytes"
	"fmt"
)

// elements reads the elements of arrays, and objects that stand one after another. White space and commas separate
// them, however many. A value that is damaged in itself ends where scanner says, so that those behind it are read; where
// that cannot be known, the rest of the file is one value that is refused.
type elements struct {
	*window
	level   int // of the file
	scanner scanner
	kept    []byte // of a value above the limit

	inArray bool
	opened  int64 // line of the array's bracket
	broken  bool  // a value took the end of the file with it, so that an array that is not closed is no news

	fresh  bool // nothing but separators stands before in the line
	column int  // how much white space that is
	indent int  // of the lines that values began at, -1 while no value did
	ragged bool // lines within values begin as those do
}

func newElements(w *window, level int) *elements {
	return &elements{window: w, level: level, fresh: true, indent: -1}
}

func (e *elements) next() (value, error) {
	c, err := e.separators()
	if err != nil {
		return value{}, err
	}
	v := value{line: e.lines + 1, offset: e.offset}
	switch {
	case c == '{', c == '"', c == '[':
		return e.value(v)
	case e.inArray:
		return e.token(v)
	}
	return e.rest(v, fmt.Sprintf("%s cannot begin a value", describeByte(c)))
}

// separators passes over what stands between values and returns the first byte of the next.
func (e *elements) separators() (byte, error) {
	for {
		unread := e.unread()
		n := e.between(unread)
		e.consume(n)
		if n == len(unread) {
			if e.err != nil {
				return 0, e.end()
			}
			e.fill()
			continue
		}
		switch c := unread[n]; {
		case c == '[' && !e.inArray:
			e.inArray, e.opened = true, e.lines+1
		case c == ']' && e.inArray:
			e.inArray = false
		default:
			return c, nil
		}
		e.fresh = false
		e.consume(1)
	}
}

// between returns how many bytes separate values.
func (e *elements) between(b []byte) int {
	for i, c := range b {
		switch c {
		case '\n':
			e.fresh, e.column = true, 0
		case ' ', '\t', '\r':
			e.column++
		case ',':
			e.fresh = false
		default:
			return i
		}
	}
	return len(b)
}

// end is the error behind the last value.
func (e *elements) end() error {
	if atEnd(e.err) && e.inArray && !e.broken {
		return &FormatError{Code: CodeTruncated, Found: "a JSON array", level: e.level,
			Message: fmt.Sprintf("the array that begins in line %d is not closed; the file may have been cut off", e.opened)}
	}
	return e.err
}

// value reads an object, an array or a string.
func (e *elements) value(v value) (value, error) {
	indent := e.indent
	if indent < 0 && e.fresh {
		indent = e.column
	}
	e.scanner.begin(indent, e.inArray)
	n := 0
	var p progress
	for {
		var m int
		m, p = e.scanner.feed(e.unread()[n:])
		n += m
		if v.length += int64(m); v.length > e.maxItem {
			e.keep(&v, n)
			n = 0
		}
		if p == damaged {
			e.scanner.recover(e.indent >= 0 && !e.ragged)
			continue
		}
		if p != more {
			break
		}
		if e.err != nil {
			if !atEnd(e.err) {
				return value{}, &cutError{what: "value that begins in line", line: v.line, err: e.err}
			}
			e.broken = true
			break
		}
		e.fill()
	}
	if p == lost || e.broken && e.scanner.along == alongBrackets {
		return e.remainder(v, n, "it is damaged so that nobody can tell where its values end")
	}
	good := e.scanner.along == undamaged && !e.broken
	if good && e.fresh {
		e.indent, e.ragged = e.column, e.ragged || e.scanner.ragged || e.indent >= 0 && e.indent != e.column
	}
	e.fresh, e.column = e.scanner.along == alongLines, e.scanner.column
	e.take(&v, n, good)
	return v, nil
}

// take ends a value with the first n unread bytes.
func (e *elements) take(v *value, n int, good bool) {
	if v.spilled {
		e.keep(v, n)
		v.data = e.kept
		return
	}
	v.data = e.unread()[:n]
	e.consume(n)
	if !good {
		v.data = bytes.TrimRight(v.data, jsonSpace+",")
	} else if bytes.IndexByte(v.data, '\n') >= 0 {
		oneLine(v.data)
	}
	v.length = int64(len(v.data))
}

// keep consumes n bytes of a value above the limit, of which only the beginning is kept.
func (e *elements) keep(v *value, n int) {
	if !v.spilled {
		e.kept, v.spilled = e.kept[:0], true
	}
	if room := int(min(keptBytes, e.maxItem)) - len(e.kept); room > 0 {
		e.kept = append(e.kept, e.unread()[:min(n, room)]...)
	}
	e.consume(n)
}

// oneLine puts a value that is spread over lines on one, where it has the same length: within a good value line ends are
// white space. So what is written of it later, or given to a program, is a line.
func oneLine(data []byte) {
	for i, c := range data {
		if c == '\n' || c == '\r' {
			data[i] = ' '
		}
	}
}

// token reads what an array holds besides objects, arrays and strings.
func (e *elements) token(v value) (value, error) {
	e.fresh = false
	for n := 0; ; {
		unread := e.unread()[n:]
		i := bytes.IndexAny(unread, jsonSpace+`,{["]`)
		if i < 0 {
			i = len(unread)
		}
		n += i
		v.length += int64(i)
		if v.length > e.maxItem {
			e.keep(&v, n)
			n = 0
		}
		switch {
		case i < len(unread), atEnd(e.err):
			e.take(&v, n, true)
			return v, nil
		case e.err != nil:
			return value{}, &cutError{what: "value that begins in line", line: v.line, err: e.err}
		}
		e.fill()
	}
}

// rest refuses what is left of the file.
func (e *elements) rest(v value, why string) (value, error) { return e.remainder(v, 0, why) }

// remainder refuses what is left of the file, to which n unread bytes belong that v counts already.
func (e *elements) remainder(v value, n int, why string) (value, error) {
	for {
		e.keep(&v, n)
		if n = len(e.unread()); n > 0 {
			v.length += int64(n)
			continue
		}
		if atEnd(e.err) {
			break
		}
		if e.err != nil {
			return value{}, &cutError{what: "value that begins in line", line: v.line, err: e.err}
		}
		e.fill()
	}
	e.broken = true
	v.data = e.kept
	v.refusal = &refusal{code: CodeUnreadable, message: "from here on the file cannot be read: " + why}
	return v, nil
}

// describeByte names a byte in a sentence.
func describeByte(c byte) string {
	if c < ' ' || c > '~' {
		return fmt.Sprintf("the byte 0x%02x", c)
	}
	return fmt.Sprintf("%q", string(c))
}
