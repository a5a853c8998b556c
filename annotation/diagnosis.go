package annotation

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// errNotWellFormed sends the reader of an item to the diagnosis.
var errNotWellFormed = errors.New("item is not well formed")

// diagnosis finds out what is wrong with the text of an item that the quick pass did not accept. It walks the item with
// a decoder that overlooks what can be overlooked, so that everything wrong is listed up to the first place after which
// nothing makes sense.
type diagnosis struct {
	options  Options
	findings *findings
	base     int // bytes of the item before the text

	text     []byte
	reader   *reader
	levels   []level
	finished bool // the first value was read to its end

	sourceDB jsontext.Value // as far as they could be read
	sourceID jsontext.Value
}

// level is an open object or array.
type level struct {
	names map[string]struct{} // keys so far; nil for an array
	name  string              // the last key
	index int                 // of the last element of an array
	named bool                // the value of the last key is still to come
}

// run reports what it finds. If that is nothing, it returns the outline: the quick pass was too suspicious.
func (d *diagnosis) run(text []byte) (outline, bool) {
	d.text = text
	d.reader = newReader(text, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	defer d.reader.release()
	if err := d.walk(); err != nil {
		d.malformed(err)
	} else if d.finished {
		d.trailing()
	}
	if d.findings.rejected() {
		return outline{}, false
	}
	out, err := readOutline(text)
	if err != nil { // unless this package has a bug, the walk has found the same
		d.malformed(err)
		return outline{}, false
	}
	return out, true
}

// walk reads the first value to its end, or as deep as is allowed, or returns the decoder's error.
func (d *diagnosis) walk() error {
	r := d.reader
	first := r.decoder.PeekKind()
	for !d.finished {
		switch kind := r.decoder.PeekKind(); kind {
		case jsontext.KindBeginObject, jsontext.KindBeginArray:
			if err := r.token(); err != nil {
				return err
			}
			d.element()
			if len(d.levels) == d.options.MaxDepth {
				d.findings.add(TooDeep, d, "Objects and arrays are nested more than %d deep at byte %d of the item. "+
					"Flatten the item or raise the nesting limit.", d.options.MaxDepth, d.offset()-1)
				return nil
			}
			l := level{index: -1}
			if kind == jsontext.KindBeginObject {
				l.names = make(map[string]struct{})
			}
			d.levels = append(d.levels, l)
		case jsontext.KindEndObject, jsontext.KindEndArray:
			if err := r.token(); err != nil {
				return err
			}
			if len(d.levels) > 0 { // else the decoder has objected
				d.levels = d.levels[:len(d.levels)-1]
			}
		default:
			v, err := r.value()
			if err != nil {
				return err
			}
			d.scalar(v)
		}
		d.finished = len(d.levels) == 0
	}
	if first != jsontext.KindBeginObject {
		d.findings.add(NotAnObject, atPath(""), "The item is %s; an object like "+
			`{"sourcedb":…,"sourceid":…,"text":…} is needed.`, describeKind(first))
	}
	return nil
}

// offset returns the offset in the item of the byte after what was read last.
func (d *diagnosis) offset() int { return d.base + int(d.reader.decoder.InputOffset()) }

// element counts a value that begins, for the path.
func (d *diagnosis) element() {
	if len(d.levels) == 0 {
		return
	}
	l := &d.levels[len(d.levels)-1]
	l.named = false
	if l.names == nil {
		l.index++
	}
}

func (d *diagnosis) scalar(v jsontext.Value) {
	var l *level
	if len(d.levels) > 0 {
		l = &d.levels[len(d.levels)-1]
	}
	if l != nil && l.names != nil && !l.named {
		l.named = true
		d.key(l, v)
		return
	}
	d.element()
	if v.Kind() == jsontext.KindString && !d.checkString(v) {
		return
	}
	if cutOff := int(d.reader.decoder.InputOffset()) == len(d.text); cutOff {
		return // a number may have had more digits
	}
	if len(d.levels) == 1 && l.names != nil {
		switch {
		case l.name == "sourcedb" && d.sourceDB == nil:
			d.sourceDB = v
		case l.name == "sourceid" && d.sourceID == nil:
			d.sourceID = v
		}
	}
}

func (d *diagnosis) key(l *level, v jsontext.Value) {
	l.name = mustUnquote(v)
	if !d.checkString(v) {
		return // what stands for its invalid parts may make different keys equal
	}
	if _, twice := l.names[l.name]; twice {
		d.findings.add(DuplicateKey, d, "The key %s stands twice in one object, again at byte %d of the item. "+
			"Keep one of the two.", quote(l.name), d.offset()-len(v))
	}
	l.names[l.name] = struct{}{}
}

// checkString reports whether a string has only characters that can be stored.
func (d *diagnosis) checkString(v jsontext.Value) bool {
	start := d.offset() - len(v)
	ok := true
	if !utf8.Valid(v) {
		i := firstInvalid(v)
		d.findings.add(InvalidUTF8, d, "The byte 0x%02x at byte %d of the item is not valid UTF-8. "+
			"Convert the file to UTF-8.", v[i], start+i)
		ok = false
	}
	for i := 0; i < len(v); i++ {
		if v[i] != '\\' {
			continue
		}
		unit, isUnit := codeUnit(v[i:])
		switch {
		case !isUnit:
			i++ // the escaped character may be a backslash
		case unit == 0:
			d.findings.add(NULCharacter, d, `A string has the character U+0000 (\u0000) at byte %d of the item. `+
				"Remove it; mind the offsets of the annotations after it.", start+i)
			return false
		case unit >= 0xd800 && unit < 0xe000:
			if low, isUnit := codeUnit(v[i+6:]); unit < 0xdc00 && isUnit && low >= 0xdc00 && low < 0xe000 {
				i += 11
				continue
			}
			d.findings.add(LoneSurrogate, d, "A string has %s, half of a surrogate pair without the other half, "+
				"at byte %d of the item. Write the character whole.", v[i:i+6], start+i)
			return false
		default:
			i += 5
		}
	}
	return ok
}

// codeUnit reads an escape like \u00e9 at the beginning of b.
func codeUnit(b []byte) (unit uint64, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return unit, err == nil
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// trailing reports what follows the first value.
func (d *diagnosis) trailing() {
	rest := trimLeftSpace(d.text[d.reader.decoder.InputOffset():])
	if len(rest) == 0 {
		return
	}
	d.findings.add(TrailingData, atPath(""), "After its first JSON value the item goes on at byte %d with %s. "+
		"Put every item on a line of its own.", d.base+len(d.text)-len(rest), quote(rest))
}

// malformed reports the place where the decoder gave up.
func (d *diagnosis) malformed(err error) {
	at := d.reader.decoder.InputOffset()
	syntactic, ok := errors.AsType[*jsontext.SyntacticError](err)
	if ok {
		at, err = syntactic.ByteOffset, syntactic.Err
	}
	at = min(max(at, 0), int64(len(d.text)))
	offset := d.base + int(at)
	switch rest := d.text[at:]; {
	case len(bytes.Trim(d.text, jsonSpace)) == 0:
		d.findings.add(InvalidJSON, atPath(""), "The item is empty; a JSON object is needed.")
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		d.findings.add(InvalidJSON, d, "The item ends at byte %d in the middle of its JSON. It may have been cut off, or spread "+
			"over several lines.", offset)
	case len(rest) > 0 && firstInvalid(rest[:min(len(rest), utf8.UTFMax)]) == 0:
		d.findings.add(InvalidUTF8, d, "The byte 0x%02x at byte %d of the item is not valid UTF-8. Convert the file to UTF-8.",
			rest[0], offset)
	default:
		reason, _ := clip(err.Error(), 3*maxQuoted)
		d.findings.add(InvalidJSON, d, "The item is not valid JSON at byte %d: %s.", offset, printable(reason))
	}
}

func printable(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

func describeKind(kind jsontext.Kind) string {
	switch kind {
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	default:
		return kind.String()
	}
}

// maxPathKey bounds, in code points, each key of the user's own in a path. Keys of the format are never shortened.
const maxPathKey = 64

// String returns the path of where the walk is, like config.types[3].
func (d *diagnosis) String() string {
	var b strings.Builder
	for _, l := range d.levels {
		switch {
		case l.names == nil && l.index >= 0:
			b.WriteString("[" + strconv.Itoa(l.index) + "]")
		case l.names != nil && l.name != "":
			name, more := clip(l.name, maxPathKey)
			switch {
			case more || !isPlainKey(name):
				if more {
					name += "…"
				}
				b.WriteString("[" + strconv.Quote(name) + "]")
			case b.Len() > 0:
				b.WriteString("." + name)
			default:
				b.WriteString(name)
			}
		}
	}
	return b.String()
}

func isPlainKey(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}
