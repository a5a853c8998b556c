package ingest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/payload"
)

// FuzzReader compares with a splitter that is too simple to be wrong.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"", "{}\n{}\r\n\n \r\n{", "\xef\xbb\xbf{}\n", "[\n1\n]", "{\n\"a\":1}", "a,b\n1,2\n", "%PDF-1.4",
		"{\"a\":\"" + strings.Repeat("x", 50) + "\"}\n{}", "{}\r", gzipOf(f, "{}\n{}"), zstdOf(f, "{}\n{}"),
		gzipOf(f, zstdOf(f, "{}\n")), tarOf(f, member{name: "a", data: "{}"}, member{name: "b", data: "[{},\n{}]"}),
		zipOf(f, member{name: "a", data: "{}"}, member{name: "b.gz", data: gzipOf(f, "{}")}),
		gzipOf(f, tarOf(f, member{name: "../a", data: "{}"}, member{name: "l", tar: ofType(tar.TypeSymlink)})),
		tarOf(f, member{name: "z", data: zipOf(f, member{name: "t", data: tarOf(f, member{name: "a", data: "{}"})})}), "[{\"a\":[1,\"]}\"]},\n oops,{\"b\":[}]\n]",
		"[\n {\"a\":1},\n {\"b\":\"\n {\"c\":[{}]}\n]\n{}", "{\n\"a\":1\n}\n,\n{\n}\nx", "{}{\"a\":{}}", "[[[\"", "[\n {\"a\": [1, {\"b\": \"]\\\"\"}]},\n -1.5e3, null, \"x,\\n\", [[], {}]]", "(\xb5\x2f\xfd", "\x1f\x8b\x08"} {
		f.Add([]byte(s), uint8(3))
		f.Add([]byte(s), uint8(200))
	}
	spool := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, chunk uint8) {
		const limit = 40
		config := ReaderConfig{File: "f", MaxItem: limit, MaxBytes: 1 << 20, MaxWindow: 1 << 20, MaxEntries: 50, MaxDirectory: 1 << 16,
			MaxSpool: 1 << 20, SpoolDir: spool}
		got, err := readAll(t, &chunked{data, int(chunk) + 1}, config)
		again, errAgain := readAll(t, bytes.NewReader(data), config)
		if diff := cmp.Diff(again, got, cmpopts.EquateEmpty()); diff != "" || (err == nil) != (errAgain == nil) {
			t.Fatalf("at once %v, in pieces %v (-at once +in pieces):\n%s", errAgain, err, diff)
		}
		r, _ := NewReader(bytes.NewReader(data), config)
		_, _ = r.Next()
		if !r.walker.compressed && !r.walker.archived {
			checkValues(t, data, got, limit)
			if r.encoding() == Itemized && err == nil {
				checkArray(t, data, got)
			}
		}
		if r.encoding() != Plain || err != nil {
			return
		}
		var want []payload.Item
		offset := int64(0)
		for i, line := range bytes.SplitAfter(data, []byte("\n")) {
			if i == 0 && bytes.HasPrefix(line, []byte(byteOrderMark)) {
				line = line[3:]
				offset = 3
			}
			content := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
			if bare := bytes.Trim(content, " \t\r"); len(bare) > 1 && (bare[0] == ',' || bare[len(bare)-1] == ',') {
				return // TestReaderLines has such lines
			}
			if bare := bytes.Trim(content, " \t\r"); len(bare) > 0 && string(bare) != "," || len(content) > limit {
				it := item(int64(len(want))+1, int64(i)+1, offset, string(content))
				it.Data = it.Data[:min(len(content), limit)]
				want = append(want, it)
			}
			offset += int64(len(line))
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// checkValues expects each value where it says, behind the one before it.
func checkValues(t *testing.T, data []byte, items []payload.Item, limit int64) {
	t.Helper()
	space := []byte(" ")
	end := int64(0)
	for i, it := range items {
		if it.Number != int64(i)+1 || it.Offset < end || it.Offset+it.Length > int64(len(data)) || it.Length == 0 {
			t.Fatalf("%+v is not behind byte %d of %d", it, end, len(data))
		}
		end = it.Offset + it.Length
		if line := int64(bytes.Count(data[:it.Offset], newline)) + 1; it.Line != line {
			t.Fatalf("%+v is in line %d", it, line)
		}
		// A value that is spread over lines is given on one.
		want := data[it.Offset:][:min(it.Length, limit)]
		if got := it.Data; !bytes.Equal(want, got) && !bytes.Equal(bytes.ReplaceAll(bytes.ReplaceAll(want, newline, space), []byte("\r"), space), got) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// checkArray expects of a well-formed array what a JSON decoder finds in it.
func checkArray(t *testing.T, data []byte, items []payload.Item) {
	t.Helper()
	var want []json.RawMessage
	if json.Unmarshal(data, &want) != nil || bytes.HasPrefix(bytes.TrimSpace(data), []byte("null")) {
		return
	}
	if len(items) != len(want) {
		t.Fatalf("%d elements of %q, want %d", len(items), data, len(want))
	}
	for i, it := range items {
		element := bytes.ReplaceAll(bytes.ReplaceAll(want[i], newline, []byte(" ")), []byte("\r"), []byte(" "))
		if it.Length != int64(len(element)) || !bytes.HasPrefix(element, bytes.ReplaceAll(bytes.ReplaceAll(it.Data, newline, []byte(" ")), []byte("\r"), []byte(" "))) {
			t.Fatalf("element %d is %q, want %q", i+1, it.Data, element)
		}
	}
}

// chunked gives its data in pieces of n bytes.
type chunked struct {
	data []byte
	n    int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.data)
	c.data = c.data[n:]
	return n, nil
}
