package ingest

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestReaderResumes resumes after each item and expects the rest as if nothing had happened.
func TestReaderResumes(t *testing.T) {
	t.Parallel()
	in := "\xef\xbb\xbf\n{\"a\":1}\r\n\n[]\n{\"long\":\"" + strings.Repeat("x", 200) + "\"}\n{}\n\n{}"
	for form, data := range map[string]string{"plain": in, "gzip": gzipOf(t, in), "zstd": zstdOf(t, in)} {
		config := ReaderConfig{File: "f", MaxItem: 100}
		all, err := readAll(t, strings.NewReader(data), config)
		if err != nil || len(all) != 5 {
			t.Fatalf("%s: got %d items, %v", form, len(all), err)
		}
		r, err := NewReader(strings.NewReader(data), config)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			position, err := r.Position()
			if err != nil {
				t.Fatal(err)
			}
			if (position.Encoding == Compressed) != (form != "plain") {
				t.Fatalf("%s: the position has encoding %q", form, position.Encoding)
			}
			rest := data
			if position.Encoding == Plain {
				rest = data[position.Offset:]
			}
			again := config
			again.Resume = position
			got, err := readAll(t, strings.NewReader(rest), again)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(all[i+1:], got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s resumed after item %d (-want +got):\n%s", form, i+1, diff)
			}
		}
	}
}

// TestReaderResumesForms does the same for every form that is resumed by its items.
func TestReaderResumesForms(t *testing.T) {
	t.Parallel()
	uploads := map[string]string{}
	for name, test := range archiveForms(t) {
		uploads[name] = test.data
	}
	for name, test := range valueForms {
		uploads["values, "+name] = test.in
	}
	for name, data := range uploads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := ReaderConfig{File: "f", SpoolDir: t.TempDir()}
			all, wantErr := readItems(t, strings.NewReader(data), config)
			r, err := NewReader(strings.NewReader(data), config)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for i := range all {
				if _, err := r.Next(); err != nil {
					t.Fatal(err)
				}
				position, err := r.Position()
				if err != nil {
					t.Fatal(err)
				}
				if position.Encoding != Itemized {
					t.Fatalf("the position has encoding %q", position.Encoding)
				}
				again := config
				again.Resume = position
				got, err := readItems(t, strings.NewReader(data), again)
				if (err == nil) != (wantErr == nil) {
					t.Errorf("resumed after item %d: got %v, want %v", i+1, err, wantErr)
				}
				if diff := cmp.Diff(all[i+1:], got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("resumed after item %d (-want +got):\n%s", i+1, diff)
				}
				for change, data := range map[string]string{
					"other values": strings.NewReplacer("1", "2", "{}", "[]").Replace(data), "shorter": data[:max(min(position.Offset-1, 3), 0)], "empty": "",
					"another form": "{}\n{}\n{}\n{}\n{}\n{}\n",
				} {
					if change == "other values" && (strings.Contains(data, "PK\x03\x04") || strings.Count(data, "{}") == 0) {
						continue // this may damage what surrounds them
					}
					if _, err := readItems(t, strings.NewReader(data), again); !errors.Is(err, ErrUploadChanged) {
						t.Errorf("resumed after item %d with %s: got %v", i+1, change, err)
					}
				}
			}
		})
	}
}

func TestReaderResumePositionsAgree(t *testing.T) {
	t.Parallel()
	in := strings.Repeat("{\"a\":1}\n\n", 1000)
	end := func(src string, config ReaderConfig, items int) Position {
		t.Helper()
		r, err := NewReader(strings.NewReader(src), config)
		if err != nil {
			t.Fatal(err)
		}
		for range items {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		p, err := r.Position()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := end(in, ReaderConfig{}, 700)
	middle := end(in, ReaderConfig{}, 300)
	got := end(in[middle.Offset:], ReaderConfig{Resume: middle}, 400)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("position after a resume (-want +got):\n%s", diff)
	}
	digest, err := got.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if first, err := end(in[:got.Offset], ReaderConfig{}, 700).Digest(); err != nil || first != digest {
		t.Errorf("digest after a resume %x, without one %x, %v", digest, first, err)
	}
}

func TestReaderUploadChanged(t *testing.T) {
	t.Parallel()
	in := strings.Repeat("{\"a\":1}\n", 100)
	r, err := NewReader(strings.NewReader(gzipOf(t, in)), ReaderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	position, err := r.Position()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"other bytes": gzipOf(t, strings.Replace(in, "1", "2", 1)),
		"shorter":     gzipOf(t, in[:80]),
		"damaged":     gzipOf(t, in)[:12],
		"empty":       "",
		"no gzip":     "hello, this is text",
	} {
		_, err := readAll(t, strings.NewReader(data), ReaderConfig{Resume: position})
		var format *FormatError
		if !errors.Is(err, ErrUploadChanged) || errors.As(err, &format) {
			t.Errorf("%s: got %v, want ErrUploadChanged", name, err)
		}
	}
	if _, err := readAll(t, strings.NewReader(zstdOf(t, in)), ReaderConfig{Resume: position}); err != nil {
		t.Errorf("the same content, compressed otherwise: %v", err)
	}
}
