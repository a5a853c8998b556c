package annotation

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	byteOrderMark = "\ufeff"
	jsonSpace     = " \t\r\n"
)

// reader decodes one JSON text in memory. Values that it returns alias the text; they stay valid.
type reader struct {
	text    []byte
	buffer  bytes.Buffer
	decoder jsontext.Decoder
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// newReader takes a reader from the pool; its user gives it back by release.
func newReader(text []byte, options ...jsontext.Options) *reader {
	r := readers.Get().(*reader)
	r.reset(text, options...)
	return r
}

func (r *reader) reset(text []byte, options ...jsontext.Options) {
	r.text = text
	r.buffer = *bytes.NewBuffer(text) // the decoder reads a bytes.Buffer in place
	r.decoder.Reset(&r.buffer, options...)
}

// release gives the reader back without holding on to the text.
func (r *reader) release() {
	r.reset(nil)
	readers.Put(r)
}

// value reads the next value whole, a key included.
func (r *reader) value() (jsontext.Value, error) {
	v, err := r.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(r.decoder.InputOffset())
	return r.text[end-len(v) : end : end], nil
}

// name reads a key. The result is valid until the next call.
func (r *reader) name() ([]byte, error) {
	v, err := r.value()
	if err != nil {
		return nil, err
	}
	if quoted := v[1 : len(v)-1]; bytes.IndexByte(quoted, '\\') < 0 {
		return quoted, nil
	}
	return []byte(mustUnquote(v)), nil
}

// token reads a bracket or brace.
func (r *reader) token() error {
	_, err := r.decoder.ReadToken()
	return err
}

// isAbsent reports whether a member is missing or null.
func isAbsent(v jsontext.Value) bool { return len(v) == 0 || v.Kind() == jsontext.KindNull }

// mustUnquote returns the text of a JSON string that is known to be one. Of other strings, invalid parts become U+FFFD.
func mustUnquote(v jsontext.Value) string {
	if len(v) >= 2 {
		if quoted := v[1 : len(v)-1]; bytes.IndexByte(quoted, '\\') < 0 && utf8.Valid(quoted) {
			return string(quoted)
		}
	}
	s, _ := jsontext.AppendUnquote(nil, v) // an error only says that something was replaced
	return string(s)
}

// appendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // an error only says that something was replaced
	return dst
}

func trimLeftSpace(b []byte) []byte  { return bytes.TrimLeft(b, jsonSpace) }
func trimRightSpace(b []byte) []byte { return bytes.TrimRight(b, jsonSpace) }

func validUTF8(s string) bool { return utf8.ValidString(s) }
