package annotation

import (
	"math"
	"strings"
)

// decimal is the exact value of a JSON number, digits × 10^exponent. digits has zeros at neither end; zero has none.
type decimal struct {
	negative bool
	digits   string
	exponent int
}

// maxExponent is where written exponents saturate: far beyond all that is ever spelled out, far within an int.
const maxExponent = math.MaxInt32

// parseDecimal takes apart a number that is valid JSON. It takes time linear in what is written, however large the number.
func parseDecimal(number string) decimal {
	var d decimal
	number, d.negative = strings.CutPrefix(number, "-")
	mantissa, exponent := number, ""
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		mantissa, exponent = number[:i], number[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	d.digits = strings.TrimRight(digits, "0")
	if d.digits == "" {
		return decimal{}
	}
	d.exponent = parseExponent(exponent) - len(fraction) + len(digits) - len(d.digits)
	return d
}

func parseExponent(s string) int {
	s, negative := strings.CutPrefix(s, "-")
	e := 0
	for _, c := range strings.TrimPrefix(s, "+") {
		e = min(e*10+int(c-'0'), maxExponent)
	}
	if negative {
		return -e
	}
	return e
}

// integer returns the value if it is integral; values beyond an int are clamped to math.MinInt and math.MaxInt.
func (d decimal) integer() (n int, ok bool) {
	if d.exponent < 0 {
		return 0, false
	}
	if len(d.digits)+d.exponent > 18 {
		if d.negative {
			return math.MinInt, true
		}
		return math.MaxInt, true
	}
	for _, c := range d.digits {
		n = n*10 + int(c-'0')
	}
	for range d.exponent {
		n *= 10
	}
	if d.negative {
		n = -n
	}
	return n, true
}

// spell returns the value in decimal notation without an exponent, unless that takes more than limit bytes.
func (d decimal) spell(limit int) (s string, ok bool) {
	if d.digits == "" {
		return "0", true
	}
	point := len(d.digits) + d.exponent // digits before the decimal point
	switch {
	case len(d.digits) > limit || point > limit || -point > limit:
		return "", false
	case d.exponent >= 0:
		s = d.digits + strings.Repeat("0", d.exponent)
	case point > 0:
		s = d.digits[:point] + "." + d.digits[point:]
	default:
		s = "0." + strings.Repeat("0", -point) + d.digits
	}
	if d.negative {
		s = "-" + s
	}
	return s, len(s) <= limit
}

// isDigits reports whether s is a non-negative integer as plain as it can be written, of at most 18 digits.
func isDigits[S ~string | ~[]byte](s S) bool {
	if len(s) == 0 || len(s) > 18 || (s[0] == '0' && len(s) > 1) {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
