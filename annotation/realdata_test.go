package annotation_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"strings"
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
			"CROSSING_BLOCKS blocks[5].span",
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
		{"archives/bconv-elliptic-coordination.json", []string{"MISSING_SOURCEDB sourcedb"}},
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

// TestRealArchives reads the items of real archives. They do not say where their documents come from; when that is said
// for them, everything is kept, what has several parts too.
func TestRealArchives(t *testing.T) {
	t.Parallel()
	var raws [][]byte
	for _, name := range []string{"BC5CDR-example", "NCBIdevset-example", "elliptic-coordination", "tutorial-example"} {
		raws = append(raws, files(t, sharedData(t, "archives/bconv-"+name+".tgz"))...)
	}
	raws = append(raws, sharedData(t, "archives/bconv-elliptic-coordination.json"))
	entries, arrays, parts := 0, 0, 0
	for i, raw := range raws {
		if item, findings := (annotation.Options{}).Parse(raw); item != nil || !cmp.Equal(spell(findings), []string{"MISSING_SOURCEDB sourcedb"}) {
			t.Errorf("item %d without a sourcedb: %v, %v", i, item, findings)
		}
		options := annotation.Options{DefaultSourceDB: "PubMed"}
		checkScanAgrees(t, options, raw)
		item, findings := options.Parse(raw)
		if item == nil || len(findings) > 0 {
			t.Fatalf("item %d: %v", i, findings)
		}
		summary, _ := options.Scan(raw)
		entries += summary.Annotations
		parts += added(item) / 2
		if item.Annotations() != summary.Annotations+added(item) {
			t.Errorf("item %d has %d entries and %d annotations, of which %d were added", i, summary.Annotations, item.Annotations(), added(item))
		}
		bagged := item.AppendBaggedJSON(nil)
		arrays += bytes.Count(bagged, []byte(`"span":[`))
		if summary, findings := options.Scan(bagged); len(findings) > 0 || summary.Annotations != item.Annotations()-added(item) {
			t.Errorf("item %d has %d annotations, %d of them added, and folds to %d, %v", i, item.Annotations(), added(item), summary.Annotations, findings)
		}
		checkBag(t, item)
	}
	if len(raws) != 24 || arrays != 4 || parts != 4 || entries != 215 {
		t.Errorf("%d items with %d annotations, of which %d have %d parts more than one", len(raws), entries, arrays, parts)
	}
}

// files returns the JSON files of a compressed archive.
func files(t *testing.T, tgz []byte) [][]byte {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg || path.Ext(header.Name) != ".json" || strings.HasPrefix(path.Base(header.Name), ".") {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content)
	}
}
