package ingest

import "bytes"

// lines reads JSON Lines: every line that is not blank is a value, however bad. Commas between objects, at either end of
// a line or on a line of their own, are no part of them.
type lines struct {
	*window
	kept []byte // of a value above the limit
}

func (l *lines) next() (value, error) {
	for {
		n, err := l.line()
		if err != nil {
			return value{}, err
		}
		line := trimEnd(l.unread()[:n])
		long := int64(len(line)) > l.maxItem
		if !long && separates(line) {
			l.consume(n)
			continue
		}
		v := value{line: l.lines + 1, offset: l.offset}
		if long {
			l.kept = append(l.kept[:0], line[:min(keptBytes, l.maxItem)]...)
			v.data = l.kept
			v.length, err = l.discard()
			return v, err
		}
		v.data = line
		if begin, end := commas(line); begin > 0 || end < len(line) {
			v.data = line[begin:end]
			v.offset += int64(begin)
		}
		v.length = int64(len(v.data))
		l.consume(n)
		return v, nil
	}
}

// line returns the length, with its end, of the line that the unread bytes begin with; of one above the limit, at least
// as much as shows that.
func (l *lines) line() (int, error) {
	for seen := 0; ; {
		unread := l.unread()
		if i := bytes.IndexByte(unread[seen:], '\n'); i >= 0 {
			return seen + i + 1, nil
		}
		seen = len(unread)
		switch {
		case int64(seen) > l.maxItem+1, seen > 0 && atEnd(l.err):
			return seen, nil
		case l.err != nil:
			return 0, l.cut(seen > 0)
		}
		l.fill()
	}
}

// cut returns the error that ends the file, which may cut through a line.
func (l *lines) cut(inLine bool) error {
	if inLine {
		return &cutError{what: "line", line: l.lines + 1, err: l.err}
	}
	return l.err
}

// discard reads to the end of the line without keeping it and returns its length.
func (l *lines) discard() (int64, error) {
	begin, last := l.offset, byte(0)
	for {
		unread := l.unread()
		i := bytes.IndexByte(unread, '\n')
		if i < 0 {
			i = len(unread)
		}
		if i > 0 {
			last = unread[i-1]
		}
		l.consume(i)
		if i < len(unread) || atEnd(l.err) {
			break
		}
		if l.err != nil {
			return 0, l.cut(true)
		}
		l.fill()
	}
	length := l.offset - begin
	if last == '\r' {
		length--
	}
	if l.start < l.end {
		l.consume(1)
	}
	return length, nil
}

// trimEnd returns a line without its end.
func trimEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, newline)
	return bytes.TrimSuffix(line, []byte("\r"))
}

// separates reports whether a line holds no value: white space only, or that and one comma.
func separates(line []byte) bool {
	line = bytes.TrimLeft(line, jsonSpace)
	if len(line) > 0 && line[0] == ',' {
		line = bytes.TrimLeft(line[1:], jsonSpace)
	}
	return len(line) == 0
}

// commas returns where the object in a line begins and ends if a comma stands before or behind it; otherwise the line's
// own bounds. No JSON value begins or ends with a comma.
func commas(line []byte) (begin, end int) {
	end = len(line)
	if trimmed := bytes.TrimRight(line, jsonSpace); bytes.HasSuffix(trimmed, []byte(",")) {
		if trimmed = bytes.TrimRight(trimmed[:len(trimmed)-1], jsonSpace); bytes.HasSuffix(trimmed, []byte("}")) {
			end = len(trimmed)
		}
	}
	if trimmed := bytes.TrimLeft(line[:end], jsonSpace); bytes.HasPrefix(trimmed, []byte(",")) {
		if trimmed = bytes.TrimLeft(trimmed[1:], jsonSpace); bytes.HasPrefix(trimmed, []byte("{")) {
			begin = end - len(trimmed)
		}
	}
	return begin, end
}
