package align_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tallyman-dev/tallyman/annotation/align"
)

// theirs is a file of the format, as far as the tests need it.
type theirs struct {
	Text        string `json:"text"`
	Denotations []struct {
		ID   string                   `json:"id"`
		Span struct{ Begin, End int } `json:"span"`
		Obj  string                   `json:"obj"`
	} `json:"denotations"`
}

func dataFolder(t testing.TB) string {
	t.Helper()
	folder := filepath.Join("..", "..", "..", "shared", "data", "alignment")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("SKIPPED: real data to align is not here: %v", err)
	}
	return folder
}

func read(t testing.TB, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// folds compares as people would: what another aligner kept of a surface counts if it is this.
func folds(s string) string { return strings.ToLower(s) }

// TestRealData compares with what another aligner made of the same texts: a floor.
func TestRealData(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	files, err := filepath.Glob(filepath.Join(folder, "*.item.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no items in %s: %v", folder, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".item.json")
		var item, document, aligned theirs
		read(t, file, &item)
		read(t, filepath.Join(folder, name+".document.json"), &document)
		read(t, filepath.Join(folder, name+".aligned.json"), &aligned)
		surfaces := map[string]string{}
		points := []rune(item.Text)
		for _, d := range item.Denotations {
			surfaces[d.ID] = string(points[d.Span.Begin:d.Span.End])
		}
		floor := 0
		for _, d := range aligned.Denotations {
			if folds(string([]rune(aligned.Text)[d.Span.Begin:d.Span.End])) == folds(surfaces[d.ID]) {
				floor++
			}
		}
		a := align.New(document.Text).Align(item.Text, 0)
		text := []rune(document.Text)
		ours, lost, changed := 0, 0, 0
		for _, d := range item.Denotations {
			s, ok := a.Map(d.Span.Begin, d.Span.End)
			switch {
			case !ok:
				lost++
				t.Logf("%s: %s %q is lost", name, d.ID, surfaces[d.ID])
			case s.Changed:
				changed++
				t.Logf("%s: %s %q is %q", name, d.ID, surfaces[d.ID], string(text[s.Begin:s.End]))
			default:
				ours++
				if got := string(text[s.Begin:s.End]); folds(got) != folds(surfaces[d.ID]) {
					t.Errorf("%s: %s is %q, want %q", name, d.ID, got, surfaces[d.ID])
				}
			}
		}
		t.Logf("%s: level %d, share %.2f, theirs %d, ours %d, lost %d, changed %d of %d",
			name, a.Level(), a.Share(), floor, ours, lost, changed, len(item.Denotations))
		if ours < floor {
			t.Errorf("%s: %d keep their surface, want at least %d", name, ours, floor)
		}
	}
}

// TestRealPassages aligns the passages of a paper to its text.
func TestRealPassages(t *testing.T) {
	t.Parallel()
	folder := dataFolder(t)
	raw, err := os.ReadFile(filepath.Join(folder, "PMC-1310901.document.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var passages []theirs
	read(t, filepath.Join(folder, "PMC-1310901.passages.json"), &passages)
	document, text := align.New(string(raw)), []rune(string(raw))
	kept := 0
	for i, p := range passages {
		a := document.Align(p.Text, 0)
		points := []rune(p.Text)
		t.Logf("passage %d: level %d, share %.3f", i, a.Level(), a.Share())
		for _, d := range p.Denotations {
			s, ok := a.Map(d.Span.Begin, d.Span.End)
			want := string(points[d.Span.Begin:d.Span.End])
			if !ok || string(text[s.Begin:s.End]) != want {
				t.Errorf("passage %d: %s %q is %+v, %v", i, d.ID, want, s, ok)
				continue
			}
			kept++
		}
	}
	if kept != 427 {
		t.Errorf("%d are kept, want 427", kept)
	}
}
