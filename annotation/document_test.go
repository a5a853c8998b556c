package annotation_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
)

// page returns the cells of the rows of the tables in docs/annotation-format.md, by the titles of their columns.
func page(t *testing.T) map[string][][]string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "docs", "annotation-format.md"))
	if err != nil {
		t.Fatal(err)
	}
	tables := make(map[string][][]string)
	titles := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			titles = ""
			continue
		}
		var cells []string
		for _, cell := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		switch {
		case titles == "":
			titles = strings.Join(cells, ", ")
		case !strings.HasPrefix(cells[0], "---"):
			tables[titles] = append(tables[titles], cells)
		}
	}
	return tables
}

// plain returns a cell without the marks of code, and whether it had them.
func plain(cell string) (string, bool) {
	text := strings.Trim(cell, "`")
	return text, text != cell
}

// TestDocumentedCodes compares the codes in the documentation with those there are, and tries its examples.
func TestDocumentedCodes(t *testing.T) {
	t.Parallel()
	told := []annotation.Code{ // their examples are told, not given
		annotation.ItemTooLarge, annotation.InvalidUTF8, annotation.TooDeep, annotation.TooManySpanParts, annotation.MoreFindings,
	}
	type row struct {
		Code        annotation.Code
		Description string
	}
	var want, got []row
	for _, info := range annotation.Codes() {
		want = append(want, row{info.Code, info.Description})
	}
	for _, cells := range page(t)["code, at, meaning, for example"] {
		code, _ := plain(cells[0])
		got = append(got, row{annotation.Code(code), cells[2]})
		raw, given := plain(cells[3])
		if given == slices.Contains(told, annotation.Code(code)) {
			t.Errorf("%s has no example", code)
		}
		if slices.Contains(told, annotation.Code(code)) {
			continue
		}
		if member := strings.HasPrefix(raw, `"`) && strings.Contains(raw, `":`); member {
			raw = doc(raw)
		}
		finding := code
		if at, ok := plain(cells[1]); ok {
			finding += " " + at
		}
		_, findings := annotation.Options{}.Parse([]byte(raw))
		if !slices.Contains(spell(findings), finding) {
			t.Errorf("%s gives %v, not %s", raw, findings, finding)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/annotation-format.md (-there is +documented):\n%s", diff)
	}
}

// TestDocumentedCoercions tries what the documentation says is stored.
func TestDocumentedCoercions(t *testing.T) {
	t.Parallel()
	tables := page(t)
	rows := slices.Concat(tables["written, is stored as, finding"], tables["written, is stored as"])
	if len(rows) < 6 {
		t.Errorf("%d rows", len(rows))
	}
	for _, cells := range rows {
		written, _ := plain(cells[0])
		stored, _ := plain(cells[1])
		item, findings := annotation.Options{}.Parse([]byte(doc(written)))
		if item == nil {
			t.Errorf("%s: %v", written, findings)
			continue
		}
		if diff := cmp.Diff(doc(stored), string(item.AppendJSON(nil))); diff != "" {
			t.Errorf("%s (-documented +stored):\n%s", written, diff)
		}
		code := ""
		if len(cells) > 2 {
			code, _, _ = strings.Cut(strings.TrimPrefix(cells[2], "`"), "`")
		}
		if (code == "") != (len(findings) == 0) || code != "" && string(findings[0].Code) != code {
			t.Errorf("%s: %v, documented is %q", written, findings, code)
		}
	}
}

// TestDocumentedIdentity tries what the documentation says is the document.
func TestDocumentedIdentity(t *testing.T) {
	t.Parallel()
	rows := page(t)["sourcedb, sourceid, is document"]
	if len(rows) == 0 {
		t.Error("no rows")
	}
	for _, cells := range rows {
		db, _ := plain(cells[0])
		id, _ := plain(cells[1])
		want, _ := plain(cells[2])
		item, findings := annotation.Options{}.Parse([]byte(`{"sourcedb":` + db + `,"sourceid":` + id + `,"text":"a"}`))
		if item == nil || item.Key.String() != want {
			t.Errorf("sourcedb %s with sourceid %s is %+v, %v, want %s", db, id, item, findings, want)
		}
	}
}
