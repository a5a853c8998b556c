package annotation_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tallyman-dev/tallyman/annotation"
)

// FuzzScan compares what Scan holds for well formed with a slower judgement.
func FuzzScan(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		options := annotation.Options{MaxDepth: 8}
		summary, findings := options.Scan(raw)
		checkFindings(t, findings)
		malformed := len(findings) > 0 && findings[0].Code.Group() == annotation.GroupText
		if want := isWellFormed(raw, options.MaxDepth); malformed == want {
			t.Errorf("well formed is %v, findings are %v", want, findings)
		}
		if len(findings) == 0 && summary.Key.IsZero() {
			t.Errorf("accepted without a key: %+v", summary)
		}
		if !summary.Key.IsZero() {
			if key, err := annotation.NewKey(summary.Key.SourceDB, summary.Key.SourceID); err != nil || key != summary.Key {
				t.Errorf("key %v is not canonical: %v, %v", summary.Key, key, err)
			}
		}
	})
}

// written leaves out what writing an item and reading it does not keep: that ids were absent.
var written = cmp.Options{
	cmpopts.IgnoreFields(annotation.Span{}, "Unnamed"),
	cmpopts.IgnoreFields(annotation.Relation{}, "Unnamed"),
	cmpopts.IgnoreFields(annotation.Attribute{}, "Unnamed"),
}

// FuzzParse compares Parse with Scan, and with itself on what it accepted.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		options := annotation.Options{DefaultSourceDB: "PMC"}
		checkScanAgrees(t, options, raw)
		item, findings := options.Parse(raw)
		checkFindings(t, findings)
		if (item == nil) != annotation.HasError(findings) {
			t.Errorf("item %v beside %v", item, findings)
		}
		if item == nil {
			return
		}
		checkItem(t, item)
		if n := item.Annotations(); n > len(raw)/2 {
			t.Errorf("%d bytes hold %d annotations", len(raw), n)
		}
		again, findings := annotation.Options{}.Parse(item.AppendJSON(nil))
		if diff := cmp.Diff(item, again, cmpopts.EquateEmpty(), written); diff != "" {
			t.Errorf("written and read (-want +got):\n%s\n%v", diff, findings)
		}
		checkBag(t, item)
	})
}

func addSeeds(f *testing.F) {
	f.Helper()
	for _, c := range parseCases() {
		if len(c.raw) < 1000 {
			f.Add([]byte(c.raw))
		}
	}
}

// isWellFormed judges as Scan does, by other means.
func isWellFormed(raw []byte, maxDepth int) bool {
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	if !utf8.Valid(raw) || !json.Valid(raw) || !jsontext.Value(raw).IsValid() || bytes.TrimLeft(raw, " \t\r\n")[0] != '{' {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	for depth := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			return true // it is valid: this is its end
		}
		switch token := token.(type) {
		case json.Delim:
			if strings.ContainsRune("{[", rune(token)) {
				depth++
			} else {
				depth--
			}
		case string:
			if strings.Contains(token, "\x00") {
				return false
			}
		}
		if depth > maxDepth {
			return false
		}
	}
}

// failing is a test, also one of rapid's.
type failing interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkItem checks the promises of the normal form.
func checkItem(t failing, item *annotation.Item) {
	t.Helper()
	if strings.TrimSpace(item.Text) == "" || utf8.RuneCountInString(item.Text) != item.Length || item.Key.IsZero() {
		t.Errorf("text %q, length %d, key %v", item.Text, item.Length, item.Key)
	}
	denotationIDs, blockIDs, relationIDs, attributeIDs := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	fresh := func(ids map[string]bool, id string) {
		if id == "" || ids[id] {
			t.Errorf("id %q is empty or not unique", id)
		}
		ids[id] = true
	}
	for _, d := range item.Denotations {
		fresh(denotationIDs, d.ID)
	}
	for _, b := range item.Blocks {
		fresh(blockIDs, b.ID)
		if denotationIDs[b.ID] {
			t.Errorf("id %q is that of a denotation and a block", b.ID)
		}
	}
	for _, s := range slices.Concat(item.Denotations, item.Blocks) {
		if s.Begin < 0 || s.Begin >= s.End || s.End > item.Length || strings.TrimSpace(s.Obj) == "" {
			t.Errorf("span %+v in a text of %d", s, item.Length)
		}
	}
	for _, r := range item.Relations {
		fresh(relationIDs, r.ID)
		ofDenotations := denotationIDs[r.Subj] && denotationIDs[r.Obj]
		if ofBlocks := blockIDs[r.Subj] && blockIDs[r.Obj]; !ofDenotations && !ofBlocks {
			t.Errorf("relation %+v refers to what is not there", r)
		}
	}
	for _, a := range item.Attributes {
		fresh(attributeIDs, a.ID)
		if !denotationIDs[a.Subj] && !blockIDs[a.Subj] && !relationIDs[a.Subj] {
			t.Errorf("attribute %+v refers to what is not there", a)
		}
	}
}
