package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/tallyman-dev/tallyman/payload"
)

func gzipOf(t testing.TB, data string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstdOf(t testing.TB, data string, options ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// readAll returns copies of all items and the error that ended them, nil for the end of the file.
func readAll(t testing.TB, src io.Reader, config ReaderConfig) ([]payload.Item, error) {
	t.Helper()
	items, err := readItems(t, src, config)
	var plain []payload.Item
	for _, it := range items {
		plain = append(plain, it.Item)
	}
	return plain, err
}

// readItems is readAll with what is refused.
func readItems(t testing.TB, src io.Reader, config ReaderConfig) ([]Item, error) {
	t.Helper()
	r, err := NewReader(src, config)
	if err != nil {
		t.Fatal(err)
	}
	var items []Item
	for {
		it, err := r.Next()
		if err != nil {
			if _, again := r.Next(); !errors.Is(again, err) {
				t.Errorf("after %v, Next returned %v", err, again)
			}
			if atEnd(err) {
				err = nil
			}
			return items, err
		}
		it.Data = bytes.Clone(it.Data)
		items = append(items, it)
	}
}

func item(number, line, offset int64, data string) payload.Item {
	return payload.Item{Number: number, File: "f", Line: line, Offset: offset, Data: []byte(data), Length: int64(len(data))}
}

func TestReaderLines(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in   string
		want []payload.Item
	}{
		"empty":             {"", nil},
		"only blank lines":  {"\n\n \t\r\n\n  ", nil},
		"one without end":   {`{"a":1}`, []payload.Item{item(1, 1, 0, `{"a":1}`)}},
		"two":               {"{}\n{ }\n", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 3, "{ }")}},
		"CRLF":              {"{}\r\n{}\r\n", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 4, "{}")}},
		"CRLF without end":  {"{}\r\n{}\r", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 4, "{}")}},
		"byte order mark":   {"\xef\xbb\xbf{}\n{}", []payload.Item{item(1, 1, 3, "{}"), item(2, 2, 6, "{}")}},
		"only that mark":    {"\xef\xbb\xbf", nil},
		"blank lines count": {"\n\r\n{}\n \n{}\n\n", []payload.Item{item(1, 3, 3, "{}"), item(2, 5, 8, "{}")}},
		"spaces are kept":   {"  {} \n", []payload.Item{item(1, 1, 0, "  {} ")}},
		"every item bad":    {"{bad\n{\"a\":\n{]\n", []payload.Item{item(1, 1, 0, "{bad"), item(2, 2, 5, `{"a":`), item(3, 3, 11, "{]")}},
		"trailing commas":   {"{},\n{} , \n", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 4, "{}")}},
		"leading commas":    {"{}\n ,{}\n, {}", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 5, "{}"), item(3, 3, 10, "{}")}},
		"lines of commas":   {"{}\n,\n{}\n , \n\n{}", []payload.Item{item(1, 1, 0, "{}"), item(2, 3, 5, "{}"), item(3, 6, 13, "{}")}},
		"bad commas":        {"{}\n,1\n2,\n,,\n", []payload.Item{item(1, 1, 0, "{}"), item(2, 2, 3, ",1"), item(3, 3, 6, "2,"), item(4, 4, 9, ",,")}},
		"first is no JSON":  {"oops\n{\"a\":1}\n", []payload.Item{item(1, 1, 0, "oops"), item(2, 2, 5, `{"a":1}`)}},
		"cut off, another":  {"{\"a\":{\n{\"a\":1}\n", []payload.Item{item(1, 1, 0, `{"a":{`), item(2, 2, 7, `{"a":1}`)}},
		"any value":         {"1\n\"s\"\nnull\n[2]\n", []payload.Item{item(1, 1, 0, "1"), item(2, 2, 2, `"s"`), item(3, 3, 6, "null"), item(4, 4, 11, "[2]")}},
		"lines of arrays":   {"[{}]\n[{}]\n", []payload.Item{item(1, 1, 0, "[{}]"), item(2, 2, 5, "[{}]")}},
		"NUL inside":        {"{\x00}\n", []payload.Item{item(1, 1, 0, "{\x00}")}},
		"invalid UTF-8":     {"{\"\xff\"}\n", []payload.Item{item(1, 1, 0, "{\"\xff\"}")}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forms := map[string]string{
				"plain":            test.in,
				"gzip":             gzipOf(t, test.in),
				"gzip members":     gzipOf(t, test.in[:len(test.in)/2]) + gzipOf(t, "") + gzipOf(t, test.in[len(test.in)/2:]),
				"zstd":             zstdOf(t, test.in, zstd.WithZeroFrames(true)),
				"zstd frames":      zstdOf(t, test.in[:len(test.in)/2]) + zstdOf(t, test.in[len(test.in)/2:], zstd.WithZeroFrames(true)),
				"zstd skippable":   "\x50\x2a\x4d\x18\x02\x00\x00\x00ab" + zstdOf(t, test.in, zstd.WithZeroFrames(true)),
				"zstd inside gzip": gzipOf(t, zstdOf(t, test.in, zstd.WithZeroFrames(true))),
			}
			for form, data := range forms {
				for source, src := range map[string]io.Reader{
					"at once":         strings.NewReader(data),
					"byte by byte":    iotest.OneByteReader(strings.NewReader(data)),
					"data with error": iotest.DataErrReader(strings.NewReader(data)),
				} {
					got, err := readAll(t, src, ReaderConfig{File: "f"})
					if err != nil {
						t.Errorf("%s, %s: %v", form, source, err)
					}
					if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", form, source, diff)
					}
				}
			}
		})
	}
}

func TestReaderLongItems(t *testing.T) {
	t.Parallel()
	const limit = 100
	long := func(n int) string { return `{"` + strings.Repeat("x", n-4) + `"}` }
	for _, end := range []string{"\n", "\r\n"} {
		for _, n := range []int{limit - 1, limit, limit + 1, limit + 2, 3 * smallBuffer} {
			in := "{}" + end + long(n) + end + "{}"
			for name, src := range map[string]io.Reader{
				"at once":      strings.NewReader(in),
				"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
				"no last line": strings.NewReader(strings.TrimSuffix(in, end+"{}")),
			} {
				got, err := readAll(t, src, ReaderConfig{File: "f", MaxItem: limit})
				if err != nil {
					t.Fatal(err)
				}
				start := int64(2 + len(end))
				want := []payload.Item{item(1, 1, 0, "{}"), item(2, 2, start, long(n))}
				if n > limit {
					want[1].Data = want[1].Data[:limit]
				}
				if name != "no last line" {
					want = append(want, item(3, 3, start+int64(n+len(end)), "{}"))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%d bytes, end %q, %s (-want +got):\n%s", n, end, name, diff)
				}
			}
		}
	}
}

func TestReaderLongItemKeepsItsBeginning(t *testing.T) {
	t.Parallel()
	in := `{"` + strings.Repeat("x", 1<<20)
	got, err := readAll(t, strings.NewReader(in), ReaderConfig{File: "f", MaxItem: 1 << 19})
	if err != nil {
		t.Fatal(err)
	}
	want := []payload.Item{item(1, 1, 0, in)}
	want[0].Data = []byte(in[:64<<10])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got[0].Truncated() {
		t.Error("the item does not say that it is truncated")
	}
}

// formatError returns the FormatError that ended the items.
func formatError(t *testing.T, err error) FormatError {
	t.Helper()
	var format *FormatError
	if !errors.As(err, &format) {
		t.Fatalf("got %v, want a FormatError", err)
	}
	return *format
}

func TestReaderDamage(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&lines, "{\"n\":%d,\"x\":%d}\n", i, i*7919%10007)
	}
	all := lines.String()
	for form, data := range map[string]string{
		"gzip":      gzipOf(t, all),
		"zstd":      zstdOf(t, all, zstd.WithWindowSize(16<<10)),
		"gzip zstd": gzipOf(t, zstdOf(t, all, zstd.WithWindowSize(16<<10))),
	} {
		flipped := []byte(data)
		flipped[len(data)*2/3] ^= 0x55
		for damage, test := range map[string]struct {
			data string
			code []string
		}{
			"cut":               {data[:len(data)*2/3], []string{CodeTruncated}},
			"cut at the end":    {data[:len(data)-1], []string{CodeTruncated}},
			"flipped":           {string(flipped), []string{CodeCorrupt, CodeTruncated}},
			"garbage behind it": {data + "garbage", []string{CodeCorrupt, CodeTruncated}},
		} {
			t.Run(form+" "+damage, func(t *testing.T) {
				t.Parallel()
				items, err := readAll(t, strings.NewReader(test.data), ReaderConfig{File: "f"})
				e := formatError(t, err)
				if !slices.Contains(test.code, e.Code) || e.File != "f" || e.Line != int64(len(items))+1 {
					t.Errorf("got %+v after %d items, want one of %v in the next line", e, len(items), test.code)
				}
				if e.Offset > int64(len(all)) || e.CompressedOffset <= 0 || e.CompressedOffset > int64(len(test.data)) {
					t.Errorf("impossible place: %+v", e)
				}
				if len(items) < 2000 {
					t.Errorf("only %d items before the damage", len(items))
				}
				for i, it := range items {
					if want := all[it.Offset : it.Offset+it.Length]; string(it.Data) != want && damage != "flipped" {
						t.Fatalf("item %d: got %q, want %q", i+1, it.Data, want)
					}
				}
			})
		}
	}
}

func TestReaderCutInHeader(t *testing.T) {
	t.Parallel()
	for form, data := range map[string]string{"gzip": gzipOf(t, "{}\n")[:5], "zstd": zstdOf(t, "{}\n")[:5]} {
		items, err := readAll(t, strings.NewReader(data), ReaderConfig{File: "f"})
		if e := formatError(t, err); e.Code != CodeTruncated || e.Line != 1 || e.Offset != 0 || len(items) > 0 {
			t.Errorf("%s: got %d items and %+v, want %s at the start", form, len(items), e, CodeTruncated)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	t.Parallel()
	objects := strings.Repeat("{\"a\":\""+strings.Repeat("x", 1000)+"\"}\n", 1000)
	// What is compressed well enough needs more than the slack of the ratio.
	const copies = ratioSlack/1_000_000 + 10
	tests := map[string]struct {
		data    string
		config  ReaderConfig
		code    string
		setting string
	}{
		"total":            {objects[:3000], ReaderConfig{MaxBytes: 100}, CodeTooLarge, SettingMaxBytes},
		"total compressed": {gzipOf(t, objects[:3000]), ReaderConfig{MaxBytes: 100}, CodeTooLarge, SettingMaxBytes},
		"ratio":            {strings.Repeat(gzipOf(t, objects), copies), ReaderConfig{MaxRatio: 50}, CodeExpansionRatio, SettingMaxRatio},
		"ratio inside":     {gzipOf(t, strings.Repeat(zstdOf(t, objects), copies)), ReaderConfig{MaxRatio: 50}, CodeExpansionRatio, SettingMaxRatio},
		"depth":            {gzipOf(t, gzipOf(t, zstdOf(t, "{}"))), ReaderConfig{}, CodeCompressionDepth, SettingMaxDepth},
		"window": {zstdOf(t, strings.Repeat(objects, 3), zstd.WithWindowSize(1<<20)), ReaderConfig{MaxWindow: 1 << 19},
			CodeWindowTooLarge, SettingMaxWindow},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.File = "f"
			r, err := NewReader(strings.NewReader(test.data), test.config)
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = r.Next()
			}
			if e := formatError(t, err); e.Code != test.code || !strings.Contains(e.Message, test.setting) {
				t.Errorf("got %+v, want %s naming %s", e, test.code, test.setting)
			}
		})
	}
}

func TestReaderSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken connection")
	data := strings.Repeat("{}\n", 1000)
	for form, data := range map[string]string{"plain": data, "gzip": gzipOf(t, data), "zstd": zstdOf(t, data)} {
		for _, n := range []int{0, 3, len(data) / 2, len(data)} {
			src := io.MultiReader(strings.NewReader(data[:n]), iotest.ErrReader(broken))
			if _, err := readAll(t, src, ReaderConfig{}); !errors.Is(err, broken) {
				t.Errorf("%s failing at byte %d: got %v, want the source's error", form, n, err)
			}
		}
		src := io.MultiReader(strings.NewReader(data[:len(data)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
		var format *FormatError
		if _, err := readAll(t, src, ReaderConfig{}); err == nil || errors.As(err, &format) {
			t.Errorf("%s: got %v: a source that ends early was taken for a truncated file", form, err)
		}
		src = io.MultiReader(strings.NewReader(data), iotest.ErrReader(fmt.Errorf("receive: %w", io.EOF)))
		if _, err := readAll(t, src, ReaderConfig{}); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v: a connection that ended was taken for the end of the file", form, err)
		}
	}
}

// TestReaderDoesNotWait expects each line as soon as it has been sent.
func TestReaderDoesNotWait(t *testing.T) {
	t.Parallel()
	pipe, send := io.Pipe()
	r, err := NewReader(pipe, ReaderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer send.Close()
		for line := range lines {
			if _, err := io.WriteString(send, line); err != nil {
				return
			}
		}
	}()
	defer pipe.Close()
	defer close(lines)
	for i := range 10 {
		want := fmt.Sprintf(`{"n":%d}`, i)
		lines <- want + "\n"
		if it, err := r.Next(); err != nil || string(it.Data) != want {
			t.Fatalf("got %s, %v, want %s", it.Data, err, want)
		}
	}
}
