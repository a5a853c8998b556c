package align

import (
	"unicode"
	"unicode/utf8"
)

// greek are the names of the letters from U+03B1 on.
var greek = [...]string{
	"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
	"omicron", "pi", "rho", "sigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}

// appendMapped appends what a code point of a decomposed text is folded to.
func appendMapped(canon []byte, r rune) []byte {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return append(canon, mapASCII(byte(r)))
	}
	r = unicode.ToLower(r)
	switch {
	case 0x3B1 <= r && r <= 0x3C9:
		return append(canon, greek[r-0x3B1]...)
	case r == 0x2206: // increment
		return append(canon, "delta"...)
	case r == 0x251: // Latin alpha
		return append(canon, "alpha"...)
	case r == 'ß':
		return append(canon, "ss"...)
	case r == 0x2044: // fraction slash
		return append(canon, '/')
	case r == 0x2217: // asterisk operator
		return append(canon, '*')
	case r == 0x223C: // tilde operator
		return append(canon, '~')
	case dash(r):
		return append(canon, '-')
	case singleQuote(r):
		return append(canon, '\'')
	case doubleQuote(r):
		return append(canon, '"')
	}
	return utf8.AppendRune(canon, r)
}

func mapASCII(c byte) byte {
	if c == '`' {
		return '\''
	}
	return c
}

func asciiSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func dash(r rune) bool {
	switch r {
	case 0x2043, 0x2212, 0x2796: // hyphen bullet, minus, heavy minus
		return true
	}
	return r >= 0x058A && unicode.Is(unicode.Pd, r)
}

func singleQuote(r rune) bool {
	switch r {
	case 0x00B4, 0x02B9, 0x02BB, 0x02BC, 0x02BD, 0x02C8, 0x2018, 0x2019, 0x201A, 0x201B, 0x2032, 0x2035, 0x2039, 0x203A, 0x275B, 0x275C:
		return true
	}
	return false
}

func doubleQuote(r rune) bool {
	switch r {
	case 0x00AB, 0x00BB, 0x02BA, 0x02EE, 0x201C, 0x201D, 0x201E, 0x201F, 0x2033, 0x2036, 0x275D, 0x275E, 0x301D, 0x301E, 0x301F:
		return true
	}
	return false
}

// undivided reports whether a code point is folded as it is, though it has a decomposition.
func undivided(r rune) bool { return r == 0x00B4 || r == 0x2033 || r == 0x2036 }

// invisible reports whether a code point is left out: it is there for how lines break or which way they run, or chooses
// among the shapes of the character before it.
func invisible(r rune) bool {
	switch {
	case r < 0xAD:
		return false
	case r == 0xAD, r == 0x34F, r == 0x61C, r == 0xFEFF:
		return true
	case 0x200B <= r && r <= 0x200F, 0x202A <= r && r <= 0x202E, 0x2060 <= r && r <= 0x2064, 0x2066 <= r && r <= 0x206F:
		return true
	case 0xFE00 <= r && r <= 0xFE0F, 0xE0100 <= r && r <= 0xE01EF:
		return true
	}
	return false
}

// unspaced reports whether a letter belongs to a script that is written without spaces between words.
func unspaced(r rune) bool {
	return r >= 0xE00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}
