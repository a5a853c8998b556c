package annotation

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestDecimalIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
		want, ok := new(big.Rat).SetString(number)
		if !ok {
			t.Fatalf("%s is no number", number)
		}
		d := parseDecimal(number)
		spelled, ok := d.spell(200)
		got, valid := new(big.Rat).SetString(spelled)
		if !ok || !valid || got.Cmp(want) != 0 {
			t.Errorf("%s is spelled %q, %v", number, spelled, ok)
		}
		n, integral := d.integer()
		if integral != want.IsInt() {
			t.Errorf("%s is integral: %v", number, integral)
		}
		switch {
		case !integral || n == math.MaxInt && want.Sign() > 0 || n == math.MinInt && want.Sign() < 0:
			if integral && len(want.Num().String()) < 18 {
				t.Errorf("%s is clamped", number)
			}
		case big.NewInt(int64(n)).Cmp(want.Num()) != 0:
			t.Errorf("%s is %d", number, n)
		}
	})
}

func TestDecimalOfHugeExponents(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]int{"1e99999999999999999999": math.MaxInt, "-1e400": math.MinInt, "0e99999999999999999999": 0} {
		if n, ok := parseDecimal(number).integer(); !ok || n != want {
			t.Errorf("%s is %d, %v, want %d", number, n, ok, want)
		}
	}
	for _, number := range []string{"1e-99999999999999999999", "1e99999999999999999999", "-12e255"} {
		if s, ok := parseDecimal(number).spell(255); ok {
			t.Errorf("%s is spelled %s", number, s)
		}
	}
}

func TestCrossingsAreComplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spans := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Span {
			begin := rapid.IntRange(0, 12).Draw(t, "begin")
			return Span{Begin: begin, End: begin + rapid.IntRange(1, 8).Draw(t, "length")}
		}), 0, 12).Draw(t, "spans")
		crosses := func(left, right int) bool {
			l, r := spans[left], spans[right]
			return l.Begin < r.Begin && r.Begin < l.End && l.End < r.End
		}
		found := make(map[int]bool)
		for _, c := range crossings(spans) {
			if !crosses(c.left, c.right) || found[c.right] {
				t.Errorf("%v of %v is no crossing or found twice", c, spans)
			}
			found[c.right] = true
		}
		for right := range spans {
			for left := range spans {
				if crosses(left, right) && !found[right] {
					t.Errorf("%d crossing %d of %v is not found", right, left, spans)
				}
			}
		}
	})
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		in, want string
		more     bool
	}{
		{"", "", false}, {"ab", "ab", false}, {"abc", "abc", false}, {"abcd", "abc", true}, {"äöü", "äöü", false}, {"äöüß", "äöü", true},
		{"😀😀😀", "😀😀😀", false}, {"😀😀😀x", "😀😀😀", true}, {"\xff\xff\xff\xff", "\xff\xff\xff", true},
	} {
		if got, more := clip(test.in, 3); got != test.want || more != test.more {
			t.Errorf("clip(%q) = %q, %v, want %q, %v", test.in, got, more, test.want, test.more)
		}
	}
}
