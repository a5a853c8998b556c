package annotation_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
)

// TestScanSummary has items of which Scan is to read the key and the weight, well formed or not.
func TestScanSummary(t *testing.T) {
	t.Parallel()
	pubMed1 := annotation.Key{SourceDB: "PubMed", SourceID: "1"}
	byDefault := annotation.Options{DefaultSourceDB: "pubmed"}
	tests := []struct {
		name    string
		options annotation.Options
		raw     string
		want    annotation.Summary
		codes   []string
	}{
		{name: "nothing but a key", raw: item(), want: annotation.Summary{Key: pubMed1, Weight: 1}},
		{name: "entries of any type count", raw: item(`"denotations":[1,{},[2,3]],"blocks":[null],"relations":["",""],"attributes":[[]]`),
			want: annotation.Summary{Key: pubMed1, Annotations: 7, Weight: 7}},
		{name: "only arrays count", raw: item(`"denotations":{"a":1,"b":2},"blocks":null,"relations":"xyz","attributes":[{}]`),
			want: annotation.Summary{Key: pubMed1, Annotations: 1, Weight: 1}},
		{name: "only the top level counts", raw: item(`"tracks":[{"denotations":[1,2,3]}],"blocks":[1,2]`), want: annotation.Summary{Key: pubMed1, Annotations: 2, Weight: 2}},
		{name: "without identity", raw: `{"blocks":[1,2]}`, want: annotation.Summary{Annotations: 2, Weight: 2},
			codes: []string{"MISSING_SOURCEDB sourcedb", "MISSING_SOURCEID sourceid"}},
		{name: "with half an identity", raw: `{"sourceid":"1"}`, want: annotation.Summary{Weight: 1}, codes: []string{"MISSING_SOURCEDB sourcedb"}},
		{name: "cut off after the key", raw: `{"sourcedb":"pubmed","sourceid":1,"text":"a`, want: annotation.Summary{Key: pubMed1, Weight: 1},
			codes: []string{"INVALID_JSON text"}},
		{name: "cut off inside the key", raw: `{"sourcedb":"pubmed","sourceid":1`, want: annotation.Summary{Weight: 1},
			codes: []string{"INVALID_JSON sourceid"}},
		{name: "key after a wrong string", raw: `{"text":"\u0000","sourcedb":"pubmed","sourceid":1}`, want: annotation.Summary{Key: pubMed1, Weight: 1},
			codes: []string{"NUL_CHARACTER text"}},
		{name: "key that is wrong itself", raw: `{"sourcedb":"pubmed\u0000","sourceid":1}`, want: annotation.Summary{Weight: 1},
			codes: []string{"NUL_CHARACTER sourcedb"}},
		{name: "the default of a broken item", options: byDefault, raw: `{"sourceid":1,"text":"\u0000"}`, want: annotation.Summary{Key: pubMed1, Weight: 1},
			codes: []string{"NUL_CHARACTER text"}},
		{name: "no default where a sourcedb may follow", options: byDefault, raw: `{"sourceid":1,"text":"a`, want: annotation.Summary{Weight: 1},
			codes: []string{"INVALID_JSON text"}},
		{name: "too large to be read", options: annotation.Options{MaxItemBytes: 10}, raw: item(), want: annotation.Summary{Weight: 1},
			codes: []string{"ITEM_TOO_LARGE"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, findings := test.options.Scan([]byte(test.raw))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.codes, spell(findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestScanAllocatesLittle holds Scan to what ingesting millions of items needs: the key, and nothing that grows.
func TestScanAllocatesLittle(t *testing.T) {
	raw := []byte(item(`"text":"` + strings.Repeat("x", 10_000) + `","denotations":[` + strings.Repeat(`{"id":"T1","span":{"begin":0,"end":1},"obj":"A"},`, 1000) + `{}]`))
	allocations := testing.AllocsPerRun(100, func() {
		if _, findings := (annotation.Options{}).Scan(raw); len(findings) > 0 {
			t.Error(findings)
		}
	})
	if allocations > 50 { // a few; the race detector makes pools forget some
		t.Errorf("%v allocations for one item", allocations)
	}
}
