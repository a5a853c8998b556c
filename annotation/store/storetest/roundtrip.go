package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// object is an item, or an entry of one, as its author writes it.
type object map[string]any

var (
	writtenIDs = []any{"T1", "T2", "T1-1", "T1.2", "R1", "A1", 1, "", nil, strings.Repeat("é", annotation.MaxIDBytes/2)}
	labels     = []string{"O", "P", annotation.Fragment}
	preds      = []string{"p", "q", annotation.LexicallyChained}
	values     = []any{"true", true, false, "", "ü\n", json.Number("1"), json.Number("1.50"), json.Number("-2e3"), nil}
)

// drawWritten makes an item as people write them: ids are there or not, spans are objects, arrays or beside the entry,
// and relations may look like those of chains. It is valid.
func drawWritten(t *rapid.T, key annotation.Key) []byte {
	text := rapid.SampledFrom([]string{"a", "é𝄞 ab c", "one two three four five", "one two three four five", "a\nb c d e"}).Draw(t, "text")
	item := object{"sourcedb": key.SourceDB, "sourceid": key.SourceID, "text": text}
	spans := rapid.SliceOfNDistinct(rapid.SampledFrom(writtenIDs), 0, 7, idOf).Draw(t, "ids")
	ends := map[string][]any{}
	for _, id := range spans {
		collection := rapid.SampledFrom([]string{"denotations", "denotations", "blocks"}).Draw(t, "collection")
		entry := object{"id": id, "obj": rapid.SampledFrom(labels).Draw(t, "obj")}
		drawSpan(t, entry, len([]rune(text)))
		item.add(collection, entry)
		if idOf(id) != "" {
			ends[collection] = append(ends[collection], id)
		}
	}
	subjects := slices.Concat(ends["denotations"], ends["blocks"])
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(writtenIDs), 0, 4, idOf).Draw(t, "relations") {
		of := ends[rapid.SampledFrom([]string{"denotations", "blocks"}).Draw(t, "ends")]
		if len(of) == 0 {
			continue
		}
		item.add("relations", object{"id": id, "subj": rapid.SampledFrom(of).Draw(t, "subj"), "obj": rapid.SampledFrom(of).Draw(t, "obj"),
			"pred": rapid.SampledFrom(preds).Draw(t, "pred")})
		if idOf(id) != "" {
			subjects = append(subjects, id)
		}
	}
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(writtenIDs), 0, 4, idOf).Draw(t, "attributes") {
		if len(subjects) > 0 {
			item.add("attributes", object{"id": id, "subj": rapid.SampledFrom(subjects).Draw(t, "of"),
				"pred": rapid.SampledFrom(preds).Draw(t, "attribute"), "obj": rapid.SampledFrom(values).Draw(t, "value")})
		}
	}
	raw, err := json.Marshal(item)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (o object) add(collection string, entry object) {
	list, _ := o[collection].([]object)
	o[collection] = append(list, entry)
}

// idOf returns an id as it is compared; those that are absent are as many as wanted, but one of each kind is enough.
func idOf(id any) string {
	if id == nil {
		return ""
	}
	return fmt.Sprint(id)
}

func drawSpan(t *rapid.T, entry object, length int) {
	offsets := rapid.SliceOfNDistinct(rapid.IntRange(0, length), 2, 6, rapid.ID).Draw(t, "offsets")
	slices.Sort(offsets)
	var parts []object
	for i := 0; i+1 < len(offsets); i += 2 {
		parts = append(parts, object{"begin": offsets[i], "end": offsets[i+1]})
	}
	switch {
	case len(parts) > 1 || rapid.Bool().Draw(t, "array"):
		entry["span"] = parts
	case rapid.Bool().Draw(t, "beside"):
		entry["begin"], entry["end"] = offsets[0], offsets[1]
	default:
		entry["span"] = parts[0]
	}
}

// parsed returns an item that must be valid.
func parsed(t *rapid.T, raw []byte) *annotation.Item {
	item, findings := annotation.Options{}.Parse(raw)
	if item == nil {
		t.Fatalf("%s is rejected: %v", raw, findings)
	}
	return item
}

// testRoundTrip stores jobs of all modes in a project, and what is exported of it in others, where the documents are known
// and where they are not: it must be exported again as it is, with chains as they are stored and folded.
func testRoundTrip(f *fixture) {
	number := int64(0)
	next := func(project string) store.Job {
		number++
		return job(number, project)
	}
	runs := 0
	rapid.Check(f.T, func(t *rapid.T) {
		if runs++; underRace && runs > racedInterleavings {
			return
		}
		first := next("")
		first.Project = fmt.Sprintf("first-%d", first.ID)
		for range rapid.IntRange(1, 3).Draw(t, "jobs") {
			first.Mode = rapid.SampledFrom(store.Modes()).Draw(t, "mode")
			first.Overlaps = func(context.Context, int64) (bool, error) { return true, nil } // nothing is rejected for its text
			f.putWritten(t, first)
			first.ID = next("").ID
		}
		for name, write := range map[string]func(*annotation.Item, []byte) []byte{
			"chains": (*annotation.Item).AppendJSON, "bags": (*annotation.Item).AppendBaggedJSON,
		} {
			want := f.lines(t, first.Project, write)
			for _, db := range []string{first.Project, "unknown-" + name + "-" + first.Project} {
				again := next("again-" + name + "-" + db)
				var entries []store.Entry
				for _, line := range want {
					item := parsed(t, line)
					item.Key.SourceDB = db
					entries = append(entries, store.Entry{Number: int64(len(entries) + 1), Item: item})
				}
				if len(entries) == 0 {
					continue
				}
				results, err := putBy(f.Context(), f.writer, newLease(), again, entries)
				if err != nil {
					t.Fatal(err)
				}
				for i, r := range results {
					if r.Outcome != annotation.Stored {
						t.Errorf("%s: document %s: %v", name, entries[i].Item.Key, r)
					}
				}
				got := f.lines(t, again.Project, write)
				for i := range got {
					got[i] = bytes.Replace(got[i], []byte(`{"sourcedb":"`+db), []byte(`{"sourcedb":"`+first.Project), 1)
				}
				if diff := diffLines(want, got); diff != "" {
					t.Fatalf("%s of documents in %s (-exported +stored and exported):\n%s", name, db, diff)
				}
			}
		}
	})
}

// putWritten stores a few items of a job, some of them passages of one document, in batches.
func (f *fixture) putWritten(t *rapid.T, job store.Job) {
	var batch []store.Entry
	items := rapid.Int64Range(1, 4).Draw(t, "items")
	for number := range items {
		key := annotation.Key{SourceDB: job.Project, SourceID: rapid.SampledFrom([]string{"1", "2"}).Draw(t, "document")}
		batch = append(batch, store.Entry{Number: number + 1, Item: parsed(t, drawWritten(t, key))})
		if number+1 < items && rapid.Bool().Draw(t, "same batch") {
			continue
		}
		if _, err := putBy(f.Context(), f.writer, newLease(), job, batch); err != nil {
			t.Fatal(err)
		}
		batch = nil
	}
}

func (f *fixture) lines(t *rapid.T, project string, write func(*annotation.Item, []byte) []byte) [][]byte {
	items, err := exportOf(f.Context(), f.store, project)
	if err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for _, item := range items {
		lines = append(lines, write(item, nil))
	}
	return lines
}

func diffLines(want, got [][]byte) string {
	return gocmp.Diff(strings.Split(string(bytes.Join(want, []byte("\n"))), "\n"), strings.Split(string(bytes.Join(got, []byte("\n"))), "\n"))
}
