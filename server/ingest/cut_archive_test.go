package ingest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReaderArchivesAreCut cuts archives at every byte: nothing is invented, and that something is missing is said.
func TestReaderArchivesAreCut(t *testing.T) {
	t.Parallel()
	members := []member{{name: "a.json", data: `{"a":1}`}, {name: "b.json", data: "[\n{},\n{}]"}, {name: "c.gz", data: gzipOf(t, "{}\n{}\n")}}
	archive := tarOf(t, members...)
	zeros := len(archive) - len(strings.TrimRight(archive, "\x00"))
	for name, test := range map[string]struct {
		data   string
		enough int // bytes without which it is not complete
	}{
		"tar":     {archive, (len(archive)-zeros+tarBlock-1)/tarBlock*tarBlock + tarBlock},
		"tar.gz":  {gzipOf(t, archive), len(gzipOf(t, archive))},
		"tar.zst": {zstdOf(t, archive), len(zstdOf(t, archive))},
		"zip":     {zipOf(t, members...), len(zipOf(t, members...))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := ReaderConfig{File: "f", SpoolDir: t.TempDir()}
			all, err := readItems(t, strings.NewReader(test.data), config)
			if err != nil || len(all) != 5 {
				t.Fatalf("got %v, %v", entries(all), err)
			}
			for n := 1; n < len(test.data); n++ {
				got, err := readItems(t, strings.NewReader(test.data[:n]), config)
				if n < test.enough && err == nil {
					t.Errorf("cut at byte %d of %d: got %v and no error", n, len(test.data), entries(got))
				}
				if len(got) > len(all) {
					t.Fatalf("cut at byte %d: got %v", n, entries(got))
				}
				if diff := cmp.Diff(entries(all[:len(got)]), entries(got)); diff != "" {
					t.Errorf("cut at byte %d (-want +got):\n%s", n, diff)
				}
			}
		})
	}
}
