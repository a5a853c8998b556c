package ingest

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

func pngOf(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func utf16Of(s string, bom, big bool) string {
	units := utf16.Encode([]rune(s))
	if bom {
		units = append([]uint16{0xfeff}, units...)
	}
	var b []byte
	for _, u := range units {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

func TestNotJSONLines(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil || !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Logf("this system's programs are not ELF: %v", err)
		program = []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 100))
	}
	tests := map[string]struct {
		data string
		line int64
		want string
	}{
		"PDF":                 {"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 1, "a PDF"},
		"PNG":                 {pngOf(t), 1, "a PNG image"},
		"ELF":                 {string(program[:100]), 1, "an ELF program"},
		"xz":                  {"\xfd7zXZ\x00\x00\x04", 1, "an xz file"},
		"RTF":                 {`{\rtf1\ansi`, 1, "an RTF document"},
		"HTML":                {"\n\n  <!DOCTYPE HTML>\n<html>", 3, "an HTML page"},
		"HTML without type":   {"<html lang=en>", 1, "an HTML page"},
		"XML":                 {"<?xml version=\"1.0\"?>\n<a/>", 1, "XML"},
		"XML, no header":      {"<PubmedArticleSet>\n<a/>", 1, "XML"},
		"CSV":                 {"sourcedb,sourceid,text\nPMC,1,\"a\"\n", 1, "a CSV table"},
		"CSV of numbers":      {"1,2,3\n4,5,6\n", 1, "a CSV table"},
		"CSV quoted":          {"\"a\",\"b\"\n\"c\",\"d\"\n", 1, "a CSV table"},
		"TSV":                 {"PMC\t1\tabc\nPMC\t2\tabc, def\n", 1, "a TSV table"},
		"plain text":          {"The quick brown fox\njumps.\n", 1, "plain text"},
		"text like true":      {"trueish\nfalse\n", 1, "plain text"},
		"control characters":  {"\x01\x02\x03\x04\x05", 1, "binary data"},
		"NUL bytes":           {strings.Repeat("\x00", 100), 1, "binary data"},
		"UTF-16LE with mark":  {utf16Of("{\"a\":1}\n", true, false), 1, "UTF-16 text"},
		"UTF-16BE with mark":  {utf16Of("{\"a\":1}\n", true, true), 1, "UTF-16 text"},
		"UTF-16LE":            {utf16Of("{\"a\":1}\n", false, false), 1, "UTF-16 text"},
		"UTF-16BE":            {utf16Of("{\"a\":1}\n", false, true), 1, "UTF-16 text"},
		"UTF-32LE":            {"\xff\xfe\x00\x00{\x00\x00\x00", 1, "UTF-32 text"},
		"text, braces inside": {"int main()\n{\n  return 0;\n}\n", 1, "plain text"},
		"a long first line":   {strings.Repeat("x", 5000), 1, "plain text"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for form, data := range map[string]string{"plain": test.data, "gzip": gzipOf(t, test.data), "zstd": zstdOf(t, test.data)} {
				items, err := readAll(t, strings.NewReader(data), ReaderConfig{File: "f", MaxItem: 1000})
				e := formatError(t, err)
				if len(items) > 0 || e.Code != CodeNotJSON || e.Found != test.want || e.Line != test.line || e.File != "f" {
					t.Errorf("%s: got %d items and %+v, want %s in line %d", form, len(items), e, test.want, test.line)
				}
				if !strings.Contains(e.Message, test.want) {
					t.Errorf("%s: %q does not say that it is %s", form, e.Message, test.want)
				}
			}
		})
	}
}
