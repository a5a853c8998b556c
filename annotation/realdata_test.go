package annotation_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
)

// TestRealCollections reads real collections. All their items are valid, and survive being written and read again.
func TestRealCollections(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name               string
		items, annotations int
		documents          int
		warnings           map[annotation.Code]int
	}{
		{"annotations/bc5cdr.jsonl", 600, 11_789, 600, map[annotation.Code]int{annotation.CrossingSpans: 5}},
		{"annotations/BB-event.array.json", 146, 3_273, 146, map[annotation.Code]int{annotation.CrossingSpans: 2}},
		{"annotations/PMC-7646410.array.json", 238, 4_217, 1, map[annotation.Code]int{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			content := sharedData(t, test.name)
			var raws [][]byte
			if bytes.HasPrefix(content, []byte("[")) {
				for _, element := range elements(t, content) {
					raws = append(raws, element)
				}
			} else {
				raws = lines(t, content)
			}
			var options annotation.Options
			annotations, weight, warnings, documents := 0, 0, map[annotation.Code]int{}, map[annotation.Key]bool{}
			for i, raw := range raws {
				checkScanAgrees(t, options, raw)
				summary, _ := options.Scan(raw)
				item, findings := options.Parse(raw)
				if item == nil {
					t.Fatalf("item %d is rejected: %v", i, findings)
				}
				for _, f := range findings {
					warnings[f.Code]++
				}
				annotations += item.Annotations()
				weight += summary.Weight
				documents[item.Key] = true
				again, _ := options.Parse(item.AppendJSON(nil))
				if diff := cmp.Diff(item, again, written); diff != "" {
					t.Errorf("item %d, written and read (-want +got):\n%s", i, diff)
				}
			}
			if len(raws) != test.items || annotations != test.annotations || weight != test.annotations || len(documents) != test.documents {
				t.Errorf("%d items, %d annotations, weight %d, %d documents", len(raws), annotations, weight, len(documents))
			}
			if diff := cmp.Diff(test.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRealMistakes reads files that are wrong on purpose, and are about no document besides.
func TestRealMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		want []string
	}{
		{"invalid/textae-invalid.json", []string{
			"MISSING_SOURCEDB sourcedb",
			"MISSING_SOURCEID sourceid",
			"SPAN_OUT_OF_RANGE denotations[0].span.begin",
			"MISSING_OBJ denotations[1].obj",
			"SPAN_OUT_OF_RANGE denotations[1].span.end",
			"SPAN_OUT_OF_RANGE denotations[2].span.end",
			"SPAN_OUT_OF_RANGE denotations[3].span.begin",
			"INVALID_OFFSET denotations[4].span.end",
			"DUPLICATE_ID denotations[5].id",
			"MISSING_OBJ denotations[5].obj",
			"DUPLICATE_ID denotations[6].id",
			"INVALID_OFFSET denotations[33].span.end",
			"SPAN_EMPTY blocks[0].span",
			"SPAN_OUT_OF_RANGE blocks[1].span.end",
			"DUPLICATE_ID blocks[3].id",
			"DUPLICATE_ID blocks[10].id",
			"DUPLICATE_ID attributes[6].id",
			"COERCED_NUMBER denotations[4].span.begin",
			"COERCED_NUMBER denotations[7].span.begin",
			"COERCED_NUMBER denotations[33].span.begin",
			"DUPLICATE_ATTRIBUTE attributes[5]",
			"SAME_RANGE_BLOCKS blocks[7]",
			"CROSSING_DENOTATIONS denotations[10].span",
		}},
		{"invalid/textae-1_annotations.json", []string{
			"MISSING_SOURCEDB sourcedb",
			"MISSING_SOURCEID sourceid",
			"MISSING_OBJ denotations[1].obj",
			"MISSING_PRED relations[6].pred",
			"DUPLICATE_ID attributes[23].id",
		}},
		{"invalid/textae-multi_tracks.json", []string{
			"MISSING_SOURCEDB sourcedb",
			"MISSING_SOURCEID sourceid",
			"IGNORED_KEY tracks",
		}},
		{"archives/bconv-elliptic-coordination.json", []string{
			"MISSING_SOURCEDB sourcedb",
			"SPAN_ARRAY_UNSUPPORTED denotations[0].span",
			"SPAN_ARRAY_UNSUPPORTED denotations[7].span",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			raw := sharedData(t, test.name)
			item, findings := annotation.Options{}.Parse(raw)
			if item != nil {
				t.Error("the item is accepted")
			}
			if diff := cmp.Diff(test.want, spell(findings)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			checkScanAgrees(t, annotation.Options{}, raw)
		})
	}
}
