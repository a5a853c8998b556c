package annotation_test

import (
	"encoding/json"
	"testing"

	"github.com/tallyman-dev/tallyman/annotation"
)

func TestValue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		encoded, text string
		kind          annotation.ValueKind
	}{
		{`true`, "true", annotation.BoolKind},
		{`false`, "false", annotation.BoolKind},
		{`""`, "", annotation.StringKind},
		{`"true"`, "true", annotation.StringKind},
		{`"a\"\n"`, "a\"\n", annotation.StringKind},
		{`0`, "0", annotation.NumberKind},
		{`1.50`, "1.50", annotation.NumberKind},
		{`-1E+400`, "-1E+400", annotation.NumberKind},
	}
	seen := make(map[annotation.Value]string)
	for _, test := range tests {
		var v annotation.Value
		if err := json.Unmarshal([]byte(" "+test.encoded+"\n"), &v); err != nil {
			t.Errorf("decode %s: %v", test.encoded, err)
			continue
		}
		if v.Kind() != test.kind || v.String() != test.text {
			t.Errorf("%s is %d %q, want %d %q", test.encoded, v.Kind(), v, test.kind, test.text)
		}
		if encoded, err := v.MarshalJSON(); err != nil || string(encoded) != test.encoded {
			t.Errorf("%s is encoded as %s, %v", test.encoded, encoded, err)
		}
		if same, ok := seen[v]; ok {
			t.Errorf("%s equals %s", test.encoded, same)
		}
		for other, encoded := range seen {
			if v.Equal(other) || v.Compare(other) == 0 || v.Compare(other) != -other.Compare(v) {
				t.Errorf("%s and %s are not told apart", test.encoded, encoded)
			}
		}
		seen[v] = test.encoded
	}
	if v := (annotation.Value{}); v != annotation.BoolValue(true) || v.String() != "true" {
		t.Errorf("the zero value is %v", v)
	}
	for _, encoded := range []string{"", "null", "{}", "[1]", "01", "nul", `"a`, `1 2`} {
		if v, err := annotation.ParseValue([]byte(encoded)); err == nil {
			t.Errorf("ParseValue(%q) = %v, want an error", encoded, v)
		}
	}
	for _, number := range []string{"", "x", "true", `"1"`, " 1", "+1", "0x1", "NaN"} {
		if v, err := annotation.NumberValue(number); err == nil {
			t.Errorf("NumberValue(%q) = %v, want an error", number, v)
		}
	}
}
