package annotation

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// ValueKind is the JSON type of a [Value]. The numbers may be stored and never change.
type ValueKind uint8

// The kinds of values.
const (
	BoolKind   ValueKind = 0
	StringKind ValueKind = 1
	NumberKind ValueKind = 2
)

// Value is the value of an attribute: a string, number or boolean, with the type it was written with. Numbers are kept
// as written: 1, 1.0 and 1e0 are three values. Values can be compared with == and be keys of maps. The zero Value is
// true, which is what an attribute without a value means.
type Value struct {
	kind ValueKind
	text string // the string, the number as written, or "false"; empty for true
}

var errNotAValue = errors.New("not a JSON string, number or boolean")

// StringValue returns a string. It must be valid UTF-8.
func StringValue(s string) Value { return Value{kind: StringKind, text: s} }

// BoolValue returns a boolean.
func BoolValue(b bool) Value {
	if b {
		return Value{}
	}
	return Value{text: "false"}
}

// NumberValue returns a number, given as it is written in JSON. Anything else is an error.
func NumberValue(number string) (Value, error) {
	v, err := ParseValue([]byte(number))
	if err != nil || v.kind != NumberKind || v.text != number {
		return Value{}, fmt.Errorf("attribute value %s is not a JSON number", quote(number))
	}
	return v, nil
}

// ParseValue reads a value from its JSON encoding, the inverse of [Value.AppendJSON]. JSON of another type, or what is
// not valid JSON, is an error.
func ParseValue(encoded []byte) (Value, error) {
	v := jsontext.Value(encoded)
	if !v.IsValid() {
		return Value{}, fmt.Errorf("attribute value %s is %w", quote(encoded), errNotAValue)
	}
	value, ok := valueOf(v[len(v)-len(trimLeftSpace(v)) : len(trimRightSpace(v))])
	if !ok {
		return Value{}, fmt.Errorf("attribute value %s is %w", quote(encoded), errNotAValue)
	}
	return value, nil
}

// valueOf takes a valid JSON value without white space around it.
func valueOf(v jsontext.Value) (Value, bool) {
	switch v.Kind() {
	case jsontext.KindString:
		return StringValue(mustUnquote(v)), true
	case jsontext.KindNumber:
		return Value{kind: NumberKind, text: string(v)}, true
	case jsontext.KindTrue, jsontext.KindFalse:
		return BoolValue(v.Kind() == jsontext.KindTrue), true
	default:
		return Value{}, false
	}
}

// Kind returns the JSON type.
func (v Value) Kind() ValueKind { return v.kind }

// String returns the text of the value: the string itself, the number as written, "true" or "false".
func (v Value) String() string {
	if v == (Value{}) {
		return "true"
	}
	return v.text
}

// Equal reports whether type and text are the same; it is ==.
func (v Value) Equal(w Value) bool { return v == w }

// Compare orders values by type, then by text, as [cmp.Compare] does. The order of numbers is that of their spelling.
func (v Value) Compare(w Value) int {
	return cmp.Or(cmp.Compare(v.kind, w.kind), cmp.Compare(v.String(), w.String()))
}

// AppendJSON appends the value in JSON.
func (v Value) AppendJSON(dst []byte) []byte {
	if v.kind == StringKind {
		return appendString(dst, v.text)
	}
	return append(dst, v.String()...)
}

// MarshalJSON returns the value in JSON. It never fails.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON reads what [ParseValue] reads.
func (v *Value) UnmarshalJSON(encoded []byte) error {
	parsed, err := ParseValue(encoded)
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}
