package annotation

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	// skimmedKeys is how many keys of an object, and of those around it, are compared with each other.
	skimmedKeys = 64

	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// skimmer reads JSON as nearly all of it is, in one pass, several times as fast as a decoder does. What it takes is well
// formed: valid UTF-8, no key twice in an object, no U+0000, no deeper than the limit. What it does not take may be well
// formed nevertheless: objects of very many keys, keys with escapes.
type skimmer struct {
	text  []byte
	depth int // that is left
	keys  [skimmedKeys]skimmedKey
	open  int // keys of the objects that are open
}

// skimmedKey is a key without its quotes.
type skimmedKey struct {
	head       uint64 // its first seven bytes, and its length up to 255
	begin, end int
}

// skim cuts text into its top-level values as readOutline does, or reports false.
func skim(text []byte, maxDepth int) (out outline, ok bool) {
	s := skimmer{text: text, depth: maxDepth}
	i := s.space(0)
	if s.at(i) != '{' {
		return outline{}, false
	}
	end, ok := s.object(i, func(name []byte, i int) (int, bool) {
		if c, ok := collectionNamed(name); ok {
			var end int
			var ok bool
			if s.at(i) == '[' {
				end, ok = s.array(i, &out.entries[c])
			} else {
				end, ok = s.value(i)
			}
			if ok {
				out.collections[c] = text[i:end:end]
			}
			return end, ok
		}
		end, ok := s.value(i)
		if !ok {
			return end, false
		}
		if member := out.member(name); member != nil {
			*member = text[i:end:end]
		} else {
			out.unknown(name)
		}
		return end, true
	})
	if !ok || s.space(end) != len(text) {
		return outline{}, false
	}
	return out, true
}

// at is the byte at i; 0, which stands nowhere in JSON, behind the end.
func (s *skimmer) at(i int) byte {
	if i < len(s.text) {
		return s.text[i]
	}
	return 0
}

// space passes over white space.
func (s *skimmer) space(i int) int {
	for i < len(s.text) && s.text[i] <= ' ' && (s.text[i] == ' ' || s.text[i] == '\n' || s.text[i] == '\t' || s.text[i] == '\r') {
		i++
	}
	return i
}

// value passes over the value that begins at i.
func (s *skimmer) value(i int) (end int, ok bool) {
	switch c := s.at(i); c {
	case '"':
		return s.quoted(i)
	case '{':
		return s.object(i, nil)
	case '[':
		return s.array(i, nil)
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	default:
		return s.number(i)
	}
}

func (s *skimmer) literal(i int, name string) (end int, ok bool) {
	end = i + len(name)
	return end, end <= len(s.text) && string(s.text[i:end]) == name
}

// array passes over the array that begins at i, and counts its elements.
func (s *skimmer) array(i int, elements *int) (end int, ok bool) {
	if s.depth--; s.depth < 0 {
		return i, false
	}
	n := 0
	if i = s.space(i + 1); s.at(i) != ']' {
		for {
			if i, ok = s.value(i); !ok {
				return i, false
			}
			n++
			i = s.space(i)
			c := s.at(i)
			if c == ']' {
				break
			}
			if c != ',' {
				return i, false
			}
			i = s.space(i + 1)
		}
	}
	if elements != nil {
		*elements = n
	}
	s.depth++
	return i + 1, true
}

// object passes over the object that begins at i. Member, if there is one, passes over the values of its keys.
func (s *skimmer) object(i int, member func(name []byte, i int) (int, bool)) (end int, ok bool) {
	if s.depth--; s.depth < 0 {
		return i, false
	}
	mine := s.open
	if i = s.space(i + 1); s.at(i) != '}' {
		for {
			begin := i + 1
			if i, ok = s.name(i, mine); !ok {
				return i, false
			}
			name := s.text[begin : i-1]
			if s.at(i) != ':' {
				if i = s.space(i); s.at(i) != ':' {
					return i, false
				}
			}
			i = s.space(i + 1)
			if member != nil {
				i, ok = member(name, i)
			} else {
				i, ok = s.value(i)
			}
			if !ok {
				return i, false
			}
			i = s.space(i)
			c := s.at(i)
			if c == '}' {
				break
			}
			if c != ',' {
				return i, false
			}
			i = s.space(i + 1)
		}
	}
	s.open = mine
	s.depth++
	return i + 1, true
}

// name passes over a key of an object, the keys of which are those from mine on, and remembers it.
func (s *skimmer) name(i, mine int) (end int, ok bool) {
	if s.at(i) != '"' || s.open == skimmedKeys {
		return i, false
	}
	k := skimmedKey{begin: i + 1}
	short := false
	if i+9 <= len(s.text) {
		// Nearly all keys end within a word, which then tells everything of them.
		w := binary.LittleEndian.Uint64(s.text[i+1:])
		n := bits.TrailingZeros64(special(w)) / 8
		if short = n < 8 && s.text[i+1+n] == '"'; short {
			k.head = w&(1<<(8*n)-1) | uint64(n)<<56
			k.end = i + 1 + n
			end = k.end + 1
		}
	}
	if !short {
		if end, ok = s.quoted(i); !ok {
			return end, false
		}
		k.end = end - 1
		name := s.text[k.begin:k.end]
		if bytes.IndexByte(name, '\\') >= 0 {
			return end, false
		}
		for j, c := range name[:min(len(name), 7)] {
			k.head |= uint64(c) << (8 * j)
		}
		k.head |= uint64(min(len(name), 255)) << 56
	}
	for j := mine; j < s.open; j++ {
		other := &s.keys[j]
		if k.head == other.head && (short || string(s.text[k.begin:k.end]) == string(s.text[other.begin:other.end])) {
			return end, false
		}
	}
	s.keys[s.open] = k
	s.open++
	return end, true
}

// special has the high bit of the first byte of a word set that needs a look in a string: a quotation mark, a backslash, a
// control character, or no ASCII; and no bit of those before it. It is 0 when there is none.
func special(w uint64) uint64 {
	quote, backslash := w^'"'*ones, w^'\\'*ones
	return ((quote-ones)&^quote | (backslash-ones)&^backslash | (w-' '*ones)&^w | w) & highs
}

// quoted passes over the string that begins at i.
func (s *skimmer) quoted(i int) (end int, ok bool) {
	i++
	for {
		for i+8 <= len(s.text) { // a word at a time
			if found := special(binary.LittleEndian.Uint64(s.text[i:])); found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		switch c := s.at(i); {
		case c == '"':
			return i + 1, true
		case c == '\\':
			n := s.escape(i)
			if n == 0 {
				return i, false
			}
			i += n
		case c < ' ':
			return i, false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.text[i:])
			if r == utf8.RuneError && n == 1 {
				return i, false
			}
			i += n
		}
	}
}

// escape returns the length of the escape that begins at i; 0 when it is none, or one of U+0000.
func (s *skimmer) escape(i int) int {
	switch s.at(i + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
	default:
		return 0
	}
	switch unit := s.unit(i); {
	case unit <= 0, 0xdc00 <= unit && unit < 0xe000:
		return 0
	case unit < 0xd800, 0xe000 <= unit:
		return 6
	}
	if low := s.unit(i + 6); 0xdc00 <= low && low < 0xe000 {
		return 12
	}
	return 0
}

// unit is the UTF-16 code unit of the escape \u.... at i, -1 when it is none.
func (s *skimmer) unit(i int) int {
	if s.at(i) != '\\' || s.at(i+1) != 'u' {
		return -1
	}
	unit := 0
	for j := i + 2; j < i+6; j++ {
		c := s.at(j)
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|' ' && c|' ' <= 'f':
			c = c | ' ' - 'a' + 10
		default:
			return -1
		}
		unit = unit<<4 | int(c)
	}
	return unit
}

// number passes over the number that begins at i.
func (s *skimmer) number(i int) (end int, ok bool) {
	if s.at(i) == '-' {
		i++
	}
	switch {
	case s.at(i) == '0':
		i++
	default:
		if i, ok = s.digits(i); !ok {
			return i, false
		}
	}
	if s.at(i) == '.' {
		if i, ok = s.digits(i + 1); !ok {
			return i, false
		}
	}
	if s.at(i)|' ' == 'e' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i, true
}

// digits passes over at least one.
func (s *skimmer) digits(i int) (end int, ok bool) {
	begin := i
	for i < len(s.text) && '0' <= s.text[i] && s.text[i] <= '9' {
		i++
	}
	return i, i > begin
}
