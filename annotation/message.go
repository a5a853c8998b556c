package annotation

import (
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxQuoted bounds, in code points, how much of a user's text a message repeats.
const maxQuoted = 60

// quote returns the beginning of s for a message: bounded, printable, and never an invalid byte.
func quote[S ~string | ~[]byte](s S) string {
	if cut, more := clip(s, maxQuoted); more {
		return strconv.Quote(cut) + "…"
	}
	return strconv.Quote(string(s))
}

// clip returns the first limit code points of s, and whether there are more. It looks at no more than it returns.
func clip[S ~string | ~[]byte](s S, limit int) (string, bool) {
	head := string(s[:min(len(s), limit*utf8.UTFMax)])
	for i := range head {
		if limit == 0 {
			return head[:i], true
		}
		limit--
	}
	return head, len(s) > len(head)
}

// describe says for a message what a well-formed JSON value is.
func describe(v jsontext.Value) string {
	switch v.Kind() {
	case jsontext.KindString:
		return "the string " + quote(mustUnquote(v))
	case jsontext.KindNumber:
		if cut, more := clip(v, maxQuoted); more {
			return "the number " + cut + "…"
		}
		return "the number " + string(v)
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindNull:
		return "null"
	default:
		return string(v)
	}
}
