package ingest

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/internal/bundle"
)

// member is an entry of an archive that a test makes.
type member struct {
	name, data string
	tar        func(*tar.Header)
	zip        func(*zip.FileHeader)
}

// tarOf returns a tar archive.
func tarOf(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.data)), Mode: 0o600, Typeflag: tar.TypeReg}
		if m.tar != nil {
			m.tar(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// zipOf returns a ZIP archive, whose entries have their sizes behind them as a stream's have.
func zipOf(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		if m.zip != nil {
			m.zip(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// entries writes items as the tables of archives do: with the file, without the byte.
func entries(items []Item) []string {
	var out []string
	for i, it := range items {
		if it.Number != int64(i)+1 {
			out = append(out, fmt.Sprintf("number %d", it.Number))
		}
		text := string(it.Data)
		if it.Refusal != nil {
			text = "!" + it.Refusal.Code
		}
		out = append(out, fmt.Sprintf("%s:%d %s", it.File, it.Line, text))
	}
	return out
}

func ofType(flag byte) func(*tar.Header) {
	return func(h *tar.Header) { h.Typeflag, h.Linkname, h.Size = flag, "/etc/passwd", 0 }
}

// patch returns data with the bytes at a place behind a mark replaced.
func patch(t *testing.T, data, mark string, at int, with string) string {
	t.Helper()
	i := strings.Index(data, mark)
	if i < 0 {
		t.Fatalf("no %q", mark)
	}
	return data[:i+at] + with + data[i+at+len(with):]
}

type archiveTest struct {
	data string
	want []string
	code string // of the error that ends it
}

// archiveForms are archives with what is in them.
func archiveForms(t *testing.T) map[string]archiveTest {
	t.Helper()
	plain := []member{{name: "a.json", data: `{"a":1}`}, {name: "d/", tar: ofType(tar.TypeDir)}, {name: "./d/b.jsonl", data: "{}\n\n{}"}}
	inside := []string{`f!a.json:1 {"a":1}`, "f!d/b.jsonl:1 {}", "f!d/b.jsonl:3 {}"}
	pretty := member{name: "p", data: "[\n{},\n{\n}\n]"}
	long := strings.Repeat("long/", 100) + "a.json"
	global := member{name: "g", tar: func(h *tar.Header) {
		*h = tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{bundle.Record: bundle.Value}}
	}}
	v7 := []byte(tarOf(t, plain[0]))
	copy(v7[257:265], make([]byte, 8))
	sum := 0
	for i, c := range v7[:tarBlock] {
		if 148 <= i && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(v7[148:], fmt.Sprintf("%06o\x00 ", sum))

	return map[string]archiveTest{
		"tar":           {tarOf(t, plain...), inside, ""},
		"zip":           {zipOf(t, plain...), inside, ""},
		"empty tar":     {tarOf(t), nil, ""},
		"empty zip":     {zipOf(t), nil, ""},
		"old tar":       {string(v7), inside[:1], ""},
		"tar of arrays": {tarOf(t, pretty, pretty), []string{"f!p:2 {}", "f!p:3 { }", "f!p:2 {}", "f!p:3 { }"}, ""},
		"stored zip": {zipOf(t, member{name: "a", data: "{}", zip: func(h *zip.FileHeader) { h.Method = zip.Store }}),
			[]string{"f!a:1 {}"}, ""},
		"duplicate names": {tarOf(t, plain[0], plain[0]), []string{inside[0], inside[0]}, ""},
		"empty files":     {tarOf(t, member{name: "e"}, plain[0], member{name: "b", data: " \n"}), inside[:1], ""},
		"compressed inside": {tarOf(t, member{name: "a.gz", data: gzipOf(t, "{}\n{}")}, member{name: "b.zst", data: zstdOf(t, "[{}]")},
			member{name: "c.gz", data: gzipOf(t, zstdOf(t, "{}"))}, member{name: "d.gz", data: gzipOf(t, "{}")}),
			[]string{"f!a.gz:1 {}", "f!a.gz:2 {}", "f!b.zst:1 {}", "f!c.gz:1 {}", "f!d.gz:1 {}"}, ""},
		"archives inside": {zipOf(t, member{name: "b.tgz", data: gzipOf(t, tarOf(t, member{name: "c.zip", data: zipOf(t, plain...)}, plain[0]))}, plain[0]),
			[]string{`f!b.tgz!c.zip!a.json:1 {"a":1}`, "f!b.tgz!c.zip!d/b.jsonl:1 {}", "f!b.tgz!c.zip!d/b.jsonl:3 {}",
				`f!b.tgz!a.json:1 {"a":1}`, inside[0]}, ""},
		"junk": {tarOf(t, member{name: "__MACOSX/._a.json", data: "x"}, member{name: "d/._a.json", data: "x"}, member{name: "d/.DS_Store", data: "x"},
			plain[0]), inside[:1], ""},
		"long names":  {tarOf(t, member{name: long, data: "{}"}), []string{"f!" + long + ":1 {}"}, ""},
		"PAX records": {tarOf(t, member{name: "ä\n.json", data: "{}"}), []string{"f!ä\ufffd.json:1 {}"}, ""},
		"GNU long names": {tarOf(t, member{name: long, data: "{}", tar: func(h *tar.Header) { h.Format = tar.FormatGNU }}),
			[]string{"f!" + long + ":1 {}"}, ""},
		"two tars":      {tarOf(t, plain[0]) + tarOf(t, plain[0]), []string{inside[0], inside[0]}, ""},
		"zeros behind":  {tarOf(t, plain[0]) + strings.Repeat("\x00", 5000), inside[:1], ""},
		"a bundle":      {tarOf(t, global, plain[0], member{name: "b.tar", data: tarOf(t, plain[0])}), []string{`a.json:1 {"a":1}`, `b.tar!a.json:1 {"a":1}`}, ""},
		"a bundle, not": {tarOf(t, plain[0], global), inside[:1], ""},

		"traversal": {tarOf(t, member{name: "a/../../b", data: "{}"}, plain[0]), []string{"f!../b:1 !UNSAFE_ENTRY", inside[0]}, ""},
		"traversal in zip": {zipOf(t, member{name: `a\..\b`, data: "{}"}, member{name: "../c", data: "{}"}, plain[0]),
			[]string{`f!a\..\b:1 !UNSAFE_ENTRY`, "f!../c:1 !UNSAFE_ENTRY", inside[0]}, ""},
		"absolute": {zipOf(t, member{name: "/a", data: "{}"}, member{name: `C:\a`, data: "{}"}, member{name: `\\host\a`, data: "{}"}, plain[0]),
			[]string{"f!/a:1 !UNSAFE_ENTRY", `f!C:\a:1 !UNSAFE_ENTRY`, `f!\\host\a:1 !UNSAFE_ENTRY`, inside[0]}, ""},
		"links and devices": {tarOf(t, member{name: "s", tar: ofType(tar.TypeSymlink)}, member{name: "l", tar: ofType(tar.TypeLink)},
			member{name: "c", tar: ofType(tar.TypeChar)}, member{name: "b", tar: ofType(tar.TypeBlock)}, member{name: "p", tar: ofType(tar.TypeFifo)}, plain[0]),
			[]string{"f!s:1 !UNSAFE_ENTRY", "f!l:1 !UNSAFE_ENTRY", "f!c:1 !UNSAFE_ENTRY", "f!b:1 !UNSAFE_ENTRY", "f!p:1 !UNSAFE_ENTRY", inside[0]}, ""},
		"link in zip": {zipOf(t, member{name: "s", data: "/etc/passwd", zip: func(h *zip.FileHeader) { h.SetMode(os.ModeSymlink | 0o777) }}, plain[0]),
			[]string{"f!s:1 !UNSAFE_ENTRY", inside[0]}, ""},
		"sparse": {patch(t, tarOf(t, member{name: "s", data: "{}", tar: func(h *tar.Header) {
			h.PAXRecords = map[string]string{"xxx.sparse.major": "1", "xxx.sparse.minor": "0"}
		}}, plain[0]), "xxx.sparse.major", 0, "GNU.sparse.minor"), []string{"f!s:1 !UNSUPPORTED_ENTRY", inside[0]}, ""},
		"encrypted": {patch(t, zipOf(t, plain[0]), "PK\x01\x02", 8, "\x09"), []string{"f!a.json:1 !ENCRYPTED"}, ""},
		"LZMA":      {patch(t, zipOf(t, plain[0]), "PK\x01\x02", 10, "\x0e"), []string{"f!a.json:1 !UNSUPPORTED_ENTRY"}, ""},
		"checksum":  {patch(t, zipOf(t, plain[0], plain[0]), "PK\x01\x02", 16, "abcd"), []string{"f!a.json:1 !CORRUPT", inside[0]}, ""},
		"no entry where it should be": {patch(t, zipOf(t, plain[0], plain[0]), "PK\x01\x02", 42, "\x05"),
			[]string{"f!a.json:1 !CORRUPT", inside[0]}, ""},
		"an office document": {zipOf(t, member{name: "[Content_Types].xml", data: "<a/>"}), nil, CodeNotJSON},
		"one inside": {tarOf(t, member{name: "a.docx", data: zipOf(t, member{name: "[Content_Types].xml", data: "<a/>"})}, plain[0]),
			[]string{"f!a.docx:1 !NOT_JSON", inside[0]}, ""},
		"other files inside": {tarOf(t, member{name: "a.pdf", data: "%PDF-1.7"}, member{name: "README", data: "\nread me"}, plain[0]),
			[]string{"f!a.pdf:1 !NOT_JSON", "f!README:2 !NOT_JSON", inside[0]}, ""},
		"damage inside": {tarOf(t, member{name: "a.gz", data: gzipOf(t, "{}\n{}\n")[:20]}, member{name: "b.tar", data: tarOf(t, plain[0])[:1000]},
			member{name: "c.zip", data: zipOf(t, plain[0])[:50]}, member{name: "d.json", data: "[{},\n{}"}, plain[0]),
			[]string{"f!a.gz:1 {}", "f!a.gz:2 !TRUNCATED", inside1("b.tar"), "f!b.tar:1 !TRUNCATED", "f!c.zip:1 !CORRUPT", "f!d.json:1 {}", "f!d.json:2 {}",
				"f!d.json:2 !TRUNCATED", inside[0]}, ""},
		"no end mark":     {tarOf(t, plain[0])[:1024], inside[:1], CodeTruncated},
		"garbage behind":  {tarOf(t, plain[0]) + "garbage", inside[:1], CodeCorrupt},
		"cut in an entry": {tarOf(t, plain[2])[:515], []string{"f!d/b.jsonl:1 {}"}, CodeTruncated},
		"damaged header":  {patch(t, tarOf(t, plain...), "d/\x00", 2, "x"), inside[:1], CodeCorrupt},
	}
}

func inside1(archive string) string { return "f!" + archive + `!a.json:1 {"a":1}` }

func TestReaderArchives(t *testing.T) {
	t.Parallel()
	for name, test := range archiveForms(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for form, data := range map[string]string{"plain": test.data, "gzip": gzipOf(t, test.data), "zstd": zstdOf(t, test.data)} {
				for source, src := range map[string]io.Reader{
					"at once":         strings.NewReader(data),
					"byte by byte":    iotest.OneByteReader(strings.NewReader(data)),
					"data with error": iotest.DataErrReader(strings.NewReader(data)),
				} {
					got, err := readItems(t, src, ReaderConfig{File: "f", SpoolDir: dir})
					if diff := cmp.Diff(test.want, entries(got), cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", form, source, diff)
					}
					code := ""
					if err != nil {
						code = formatError(t, err).Code
					}
					if code != test.code {
						t.Errorf("%s, %s: it ended with %v, want code %q", form, source, err, test.code)
					}
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left in the folder of temporary files: %v, %v", left, err)
			}
		})
	}
}

// nested returns an object in n archives, one in another.
func nested(t *testing.T, n int) string {
	t.Helper()
	data := "{}"
	for range n {
		data = tarOf(t, member{name: "a", data: data})
	}
	return data
}

func TestReaderArchiveLimits(t *testing.T) {
	t.Parallel()
	spaces := strings.Repeat(" ", 40<<20)
	bomb := zipOf(t, member{name: "a", data: "{}" + spaces}, member{name: "b", data: spaces + "{}"})
	many := make([]member, 30)
	for i := range many {
		many[i] = member{name: "a", data: "{}"}
	}
	lying := zipOf(t, many...)
	end := len(lying) - 22
	lying = lying[:end+8] + strings.Repeat("\xff", 4) + lying[end+12:]
	tests := map[string]struct {
		data    string
		config  ReaderConfig
		code    string
		setting string
		items   int
		ends    bool // the upload
	}{
		"zip bomb":         {bomb, ReaderConfig{}, CodeExpansionRatio, SettingMaxRatio, 1, true},
		"zip bomb in tar":  {tarOf(t, member{name: "z", data: bomb}, many[0]), ReaderConfig{}, CodeExpansionRatio, SettingMaxRatio, 1, true},
		"gzip bombs":       {tarOf(t, member{name: "a", data: gzipOf(t, spaces+"{}")}, member{name: "b", data: gzipOf(t, spaces)}), ReaderConfig{}, CodeExpansionRatio, SettingMaxRatio, 1, true},
		"total":            {tarOf(t, many...), ReaderConfig{MaxBytes: 9}, CodeTooLarge, SettingMaxBytes, 4, true},
		"entries":          {tarOf(t, many...), ReaderConfig{MaxEntries: 7}, CodeTooManyEntries, SettingMaxEntries, 7, true},
		"entries of zip":   {zipOf(t, many...), ReaderConfig{MaxEntries: 7}, CodeTooManyEntries, SettingMaxEntries, 7, true},
		"directory of zip": {zipOf(t, many...), ReaderConfig{MaxDirectory: 100}, CodeTooManyEntries, SettingMaxDirectory, 0, true},
		"lying directory":  {lying, ReaderConfig{MaxDirectory: 10000}, CodeTooManyEntries, SettingMaxDirectory, 0, true},
		"inside":           {tarOf(t, member{name: "z", data: zipOf(t, many...)}, many[0]), ReaderConfig{MaxDirectory: 100}, CodeTooManyEntries, SettingMaxDirectory, 1, false},
		"spool":            {zipOf(t, many...), ReaderConfig{MaxSpool: 100}, CodeSpoolFull, SettingMaxSpool, 0, true},
		"spool inside":     {tarOf(t, member{name: "z", data: zipOf(t, many...)}, many[0]), ReaderConfig{MaxSpool: 100}, CodeSpoolFull, SettingMaxSpool, 1, false},
		"depth":            {nested(t, 9), ReaderConfig{}, CodeArchiveDepth, SettingMaxArchives, 0, false},
		"depth, more":      {nested(t, 60), ReaderConfig{MaxArchives: 50}, CodeArchiveDepth, SettingMaxArchives, 0, false},
		"compressions":     {tarOf(t, member{name: "z", data: gzipOf(t, gzipOf(t, gzipOf(t, "{}")))}, many[0]), ReaderConfig{}, CodeCompressionDepth, SettingMaxDepth, 1, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.config.File, test.config.SpoolDir = "f", t.TempDir()
			items, err := readItems(t, strings.NewReader(test.data), test.config)
			good := 0
			var found Finding
			for _, it := range items {
				if it.Refusal != nil {
					found = *it.Refusal
				} else {
					good++
				}
			}
			if test.ends {
				e := formatError(t, err)
				found = e.Finding()
			} else if err != nil {
				t.Fatal(err)
			}
			if good != test.items || found.Code != test.code || !strings.Contains(found.Message, test.setting) {
				t.Errorf("got %d items and %+v, want %d and %s naming %s", good, found, test.items, test.code, test.setting)
			}
			if left, err := os.ReadDir(test.config.SpoolDir); err != nil || len(left) > 0 {
				t.Errorf("left in the folder of temporary files: %v, %v", left, err)
			}
		})
	}
	if items, err := readItems(t, strings.NewReader(nested(t, 8)), ReaderConfig{File: "f"}); err != nil || len(items) != 1 ||
		items[0].File != "f"+strings.Repeat("!a", 8) {
		t.Errorf("8 archives: got %v, %v", entries(items), err)
	}
}

// TestReaderClosesSpool closes a reader in the middle of a ZIP archive.
func TestReaderClosesSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := zipOf(t, member{name: "a", data: "{}\n{}"}, member{name: "b.zip", data: zipOf(t, member{name: "c", data: "{}\n{}"})})
	for n := range 4 {
		r, err := NewReader(strings.NewReader(data), ReaderConfig{SpoolDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.Next(); err == nil || atEnd(err) {
			t.Errorf("a closed reader returned %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left in the folder of temporary files after %d items: %v, %v", n, left, err)
		}
	}
	r, err := NewReader(strings.NewReader(data), ReaderConfig{SpoolDir: dir + "/none"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err == nil || strings.Contains(fmt.Sprintf("%T", err), "FormatError") {
		t.Errorf("without a folder for temporary files: got %v, want an error that is not the file's", err)
	}
}

func TestPromisedEntries(t *testing.T) {
	t.Parallel()
	data := []byte(zipOf(t, member{name: "a", data: "{}"}))
	// A record of 64 bits and its locator before the end record.
	end := len(data) - 22
	record := append([]byte("PK\x06\x06"), make([]byte, 52)...)
	binary.LittleEndian.PutUint64(record[32:], 1<<40)
	locator := append([]byte("PK\x06\x07"), make([]byte, 16)...)
	binary.LittleEndian.PutUint64(locator[8:], uint64(end))
	long := append(append(append(bytes.Clone(data[:end]), record...), locator...), data[end:]...)
	config := ReaderConfig{SpoolDir: t.TempDir()}.withDefaults()
	for want, data := range map[uint64][]byte{0: data[:20], 1: data, 1 << 40: long} {
		s, err := newSpool(bytes.NewReader(data), 0, &newWalker(&config, &source{}).budget)
		if err != nil {
			t.Fatal(err)
		}
		if got := promisedEntries(s); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}
