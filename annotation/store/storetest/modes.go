package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// in returns a job in a mode.
func in(mode string, id int64, project string) store.Job {
	return store.Job{ID: id, Project: project, Mode: mode}
}

const pair = `{"sourcedb":"P","sourceid":"1","text":"ab cd","denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"N"},{"id":"T2","span":{"begin":3,"end":5},"obj":"N"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T2"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"}]}`

func testAdd(f *fixture) {
	t := f.T
	f.wantOutcomes(f.put(in(store.ModeAdd, 2, "added"), parse(t, pair)), annotation.Stored)
	younger := f.put(in(store.ModeAdd, 4, "added"), parse(t, pair))
	f.wantCodes(younger[0], "ID_CHANGED denotations[0].id", "ID_CHANGED denotations[1].id", "ID_CHANGED relations[0].id", "ID_CHANGED attributes[0].id")
	f.wantExport("added", `{"sourcedb":"P","sourceid":"1","text":"ab cd","denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"N"},{"id":"T2","span":{"begin":3,"end":5},"obj":"N"},{"id":"T1.1","span":{"begin":0,"end":2},"obj":"N"},{"id":"T2.1","span":{"begin":3,"end":5},"obj":"N"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T2"},{"id":"R1.1","subj":"T1.1","pred":"p","obj":"T2.1"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"},{"id":"A1.1","subj":"R1.1","pred":"q"}]}`)
	// A replacement that comes late takes away what came before it; what came after has its ids to itself.
	f.put(job(3, "added"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"ab cd"}`))
	f.wantExport("added", pair)
	f.wantCodes(f.put(in(store.ModeAdd, 2, "added"), []store.Entry{{Number: 7, Item: parse(t, pair)[0].Item}})[0], "SUPERSEDED")
	f.put(job(5, "added"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"ab cd"}`))
	f.wantExport("added", `{"sourcedb":"P","sourceid":"1","text":"ab cd"}`)
}

// What is merged refers to what stands, also where that comes later; what stands for others may go.
func testMerge(f *fixture) {
	t := f.T
	entries := parse(t, pair+`
{"sourcedb":"P","sourceid":"1","text":"ab cd","denotations":[{"id":"X","span":{"begin":3,"end":5},"obj":"N"},{"id":"Y","span":{"begin":3,"end":5},"obj":"N"},{"id":"T1","span":{"begin":0,"end":5},"obj":"N"}],"blocks":[{"id":"Z","span":{"begin":3,"end":5},"obj":"N"}],"relations":[{"id":"R7","subj":"T1","pred":"p","obj":"Y"},{"id":"R8","subj":"T1","pred":"p","obj":"X"}],"attributes":[{"id":"A1","subj":"X","pred":"q","obj":1},{"id":"A2","subj":"Y","pred":"q","obj":1},{"id":"A3","subj":"Y","pred":"q","obj":"1"}]}`)
	const text = `{"sourcedb":"P","sourceid":"1","text":"ab cd",`
	const alone = text + `"denotations":[{"id":"X","span":{"begin":3,"end":5},"obj":"N"},{"id":"T1","span":{"begin":0,"end":5},"obj":"N"}],"blocks":[{"id":"Z","span":{"begin":3,"end":5},"obj":"N"}],"relations":[{"id":"R7","subj":"T1","pred":"p","obj":"X"}],"attributes":[{"id":"A1","subj":"X","pred":"q","obj":1},{"id":"A3","subj":"X","pred":"q","obj":"1"}]}`
	const both = text + `"denotations":[{"id":"T1","span":{"begin":0,"end":2},"obj":"N"},{"id":"T2","span":{"begin":3,"end":5},"obj":"N"},{"id":"T1.2","span":{"begin":0,"end":5},"obj":"N"}],"blocks":[{"id":"Z","span":{"begin":3,"end":5},"obj":"N"}],"relations":[{"id":"R1","subj":"T1","pred":"p","obj":"T2"},{"id":"R7","subj":"T1.2","pred":"p","obj":"T2"}],"attributes":[{"id":"A1","subj":"R1","pred":"q"},{"id":"A1.2","subj":"T2","pred":"q","obj":1},{"id":"A3","subj":"T2","pred":"q","obj":"1"}]}`
	for i, order := range [][]int{{0, 1}, {1, 0}} {
		project, base := []string{"forwards", "backwards"}[i], int64(10*i) // the number of a job is its own
		for n, at := range order {
			r := f.put(in(store.ModeMerge, base+4, project), entries[at:][:1])
			if i == 0 {
				continue
			}
			f.wantExport(project, []string{alone, both}[n])
			if n == 1 {
				f.wantCodes(r[0], "ID_CHANGED denotations[0].id", "ID_CHANGED attributes[0].id")
			}
		}
		f.wantExport(project, both)
		// Again, and from another job, they add nothing.
		f.wantOutcomes(f.put(in(store.ModeMerge, base+6, project), entries), annotation.Stored, annotation.Stored)
		f.wantOutcomes(f.put(in(store.ModeMerge, base+3, project), entries[:1]), annotation.Stored)
		f.wantExport(project, both)
		counts, err := f.store.Count(t.Context(), project)
		if want := (store.Counts{Documents: 1, Denotations: 3, Blocks: 1, Relations: 2, Attributes: 3}); err != nil || counts != want {
			t.Errorf("%+v, %v, want %+v", counts, err, want)
		}
		rows, err := f.engine.Query(t.Context(), f.store, `SELECT count(*) FROM denotations WHERE project = '`+project+`'`)
		if err != nil || rows[0][0] != "3" {
			t.Errorf("the view has %v rows, %v", rows, err)
		}
		// What jobs 3 and 4 brought goes; what job 6 brought stands for itself.
		f.put(job(base+5, project), []store.Entry{{Number: 9, Item: parse(t, text+`"denotations":[]}`)[0].Item}})
		f.put(in(store.ModeMerge, base+7, project), entries[:1])
		f.wantExport(project, both)
	}
	// What is in add mode stays, whatever is there; who merges later merges with the first.
	f.put(in(store.ModeAdd, 8, "forwards"), entries[:1])
	f.put(in(store.ModeMerge, 9, "forwards"), entries[:1])
	counts, err := f.store.Count(t.Context(), "forwards")
	if want := (store.Counts{Documents: 1, Denotations: 5, Blocks: 1, Relations: 3, Attributes: 4}); err != nil || counts != want {
		t.Errorf("%+v, %v, want %+v", counts, err, want)
	}
}

// Passages of a job that come late move what another project says to where it is not the same any more.
func testMergeFollowsText(f *fixture) {
	t := f.T
	composing := parse(t, word("x", "T1")+word("b a", "T2")+word("a", "T3"))
	f.put(job(1, "composing"), composing[1:2])
	f.put(in(store.ModeAdd, 2, "merging"), parse(t, word("a", "T1")))
	f.put(in(store.ModeMerge, 3, "merging"), parse(t, word("b a", "T2")+word("a", "T3")))
	const text = `{"sourcedb":"P","sourceid":"1","text":`
	f.wantExport("merging", text+`"b a","denotations":[{"id":"T1","span":{"begin":2,"end":3},"obj":"Word"},{"id":"T2","span":{"begin":0,"end":3},"obj":"Word"}]}`)
	f.put(job(1, "composing"), composing[2:])
	f.wantExport("merging", text+`"b a\na","denotations":[{"id":"T1","span":{"begin":2,"end":3},"obj":"Word"},{"id":"T2","span":{"begin":0,"end":3},"obj":"Word"},{"id":"T3","span":{"begin":4,"end":5},"obj":"Word"}]}`)
}

func testSkip(f *fixture) {
	t := f.T
	skipping := in(store.ModeSkip, 3, "skipping")
	entries := parse(t, labeled("1", "new")+labeled("2", "new")+labeled("1", "more")+labeled("2", "more")+labeled("3", "new"))
	f.put(job(1, "skipping"), parse(t, labeled("1", "old")+`{"sourcedb":"D","sourceid":"3","text":"word"}`))
	first := f.put(skipping, entries[:2])
	f.wantOutcomes(first, annotation.Skipped, annotation.Stored)
	// It was decided, whatever came meanwhile.
	f.put(job(2, "skipping"), parse(t, `{"sourcedb":"D","sourceid":"1","text":"word"}`))
	f.put(in(store.ModeAdd, 4, "skipping"), parse(t, labeled("2", "others")))
	// A document that was cleared has no annotations.
	f.wantOutcomes(f.put(skipping, entries[2:]), annotation.Skipped, annotation.StoredWarnings, annotation.Stored)
	if diff := gocmp.Diff(first, f.put(skipping, entries[:2])); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}
	f.wantExport("skipping", `{"sourcedb":"D","sourceid":"1","text":"word"}
{"sourcedb":"D","sourceid":"2","text":"word","denotations":[{"id":"T1","span":{"begin":0,"end":4},"obj":"new"},{"id":"T1.4","span":{"begin":0,"end":4},"obj":"more"},{"id":"T1.1","span":{"begin":0,"end":4},"obj":"others"}]}
`+labeled("3", "new"))
	// What another project says does not matter, nor an item that is rejected.
	elsewhere := in(store.ModeSkip, 5, "elsewhere")
	rejected := parse(t, labeled("1", "new"))
	rejected[0].Item.Text, rejected[0].Item.Length = "quite unlike", 12
	f.wantOutcomes(f.put(elsewhere, rejected), annotation.Rejected)
	f.wantOutcomes(f.put(elsewhere, []store.Entry{{Number: 2, Item: entries[0].Item}}), annotation.Stored)
	// A skipped item's text does not matter, nor does it make a document.
	f.wantOutcomes(f.put(in(store.ModeSkip, 6, "elsewhere"), rejected), annotation.Skipped)
	f.wantExport("elsewhere", labeled("1", "new"))
}

// Two jobs replace the same documents at once, with attempts that die, and the older one is tried again when both have
// ended: what is left is the younger's.
func testTwoReplace(f *fixture) {
	t := f.T
	const documents = 150
	of := func(obj string) []store.Entry {
		entries := numbered(t, documents)
		for _, e := range entries {
			e.Item.Denotations[0].Obj = obj
		}
		return entries
	}
	older, younger := of("older"), of("younger")
	// The older one says something that the younger does not speak of.
	older = append(older, store.Entry{Number: documents + 1, Item: parse(t, labeled("only", "older"))[0].Item})
	writers := []store.Writer{f.writer, f.newWriter(f.again())}
	again := make(map[int64]portion)
	var group errgroup.Group
	for i, w := range []whole{{job(1, "twice"), older}, {job(2, "twice"), younger}} {
		for n, batch := range slices.Collect(slices.Chunk(w.entries, 25)) {
			p := portion{whole: whole{w.job, batch}, kills: [][]string{nil, {"before"}, {"at commit", "frozen"}, {"after"}}[n%4]}
			if i == 0 && n == 3 { // this one fails, and is tried again by hand
				again[newLease().Batch] = p
				continue
			}
			group.Go(func() error {
				_, err := p.put(t.Context(), writers[(i+n)%2])
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for batch, p := range again {
		lease := newLease()
		lease.Batch, lease.Attempt = batch, 7
		results, err := putBy(t.Context(), f.writer, lease, p.job, p.entries)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			f.wantCodes(r, "SUPERSEDED")
		}
	}
	want := strings.ReplaceAll(labeled("only", "older"), "\n", "")
	for _, item := range f.export("twice") {
		switch {
		case item.Key.SourceDB == "D":
			if diff := diffItems([]*annotation.Item{parse(t, want)[0].Item}, []*annotation.Item{item}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		case len(item.Denotations) != 1 || item.Denotations[0].Obj != "younger" || item.Denotations[0].ID != "T1":
			t.Errorf("document %s has %+v", item.Key, item.Denotations)
		}
	}
	if n := len(f.export("twice")); n != documents+1 {
		t.Errorf("%d documents, want %d", n, documents+1)
	}
}

// Two jobs bring the passages of a document that is not known, at once: neither waits for the other's.
func testTwoCompose(f *fixture) {
	t := f.T
	lines := word("first", "T1") + word("second", "T2") + word("third", "T3")
	var asked []int64
	overlapping := in(store.ModeReplace, 2, "younger")
	overlapping.Overlaps = func(_ context.Context, other int64) (bool, error) {
		asked = append(asked, other)
		return true, nil
	}
	older := parse(t, lines)
	younger := parse(t, lines+word("of its own", "T4"))
	f.put(job(1, "older"), older[2:])
	f.wantOutcomes(f.put(overlapping, younger[1:]), annotation.Stored, annotation.Stored, annotation.Stored)
	if diff := gocmp.Diff([]int64{1}, asked); diff != "" {
		t.Errorf("jobs asked about (-want +got):\n%s", diff)
	}
	f.wantOutcomes(f.put(job(1, "older"), older[:2]), annotation.Stored, annotation.Stored)
	f.wantOutcomes(f.put(overlapping, younger[:1]), annotation.Stored)
	const text = `{"sourcedb":"P","sourceid":"1","text":"first\nsecond\nthird\nof its own","denotations":[{"id":"T1","span":{"begin":0,"end":5},"obj":"Word"},{"id":"T2","span":{"begin":6,"end":12},"obj":"Word"},{"id":"T3","span":{"begin":13,"end":18},"obj":"Word"}`
	f.wantExport("older", text+`]}`)
	f.wantExport("younger", text+`,{"id":"T4","span":{"begin":19,"end":29},"obj":"Word"}]}`)

	// Job 1 had ended when job 3 was submitted, but job 2 had not.
	later := in(store.ModeAdd, 3, "later")
	later.Overlaps = func(_ context.Context, other int64) (bool, error) { return other == 2, nil }
	f.wantOutcomes(f.put(later, parse(t, word("of its own", "T1")+word("another", "T2"))), annotation.Stored, annotation.Stored)
	// All of them had when job 4 was.
	last := in(store.ModeAdd, 4, "last")
	last.Overlaps = func(context.Context, int64) (bool, error) { return false, nil }
	results := f.put(last, parse(t, word("another", "T1")+word("xyz", "T2")))
	f.wantOutcomes(results, annotation.Stored, annotation.Rejected)
	f.wantCodes(results[1], "TEXT_MISMATCH text")
	// An answer that does not come is no reason to reject anything.
	reason := errors.New("the coordinator does not answer")
	last.Overlaps = func(context.Context, int64) (bool, error) { return false, reason }
	_, err := putBy(t.Context(), f.writer, newLease(), last, []store.Entry{{Number: 3, Item: parse(t, word("something else", "T1"))[0].Item}})
	f.wantError(err, reason)
}

// A document that is known only by items that were refused before is not known.
func testRefusedDocument(f *fixture) {
	t := f.T
	entries := parse(t, word("refused", "T1")+labeled("1", "taken"))
	entries[0].Item.Denotations[0].End = 0
	f.wantOutcomes(f.put(job(1, "refused"), entries[:1]), annotation.Rejected)
	f.wantOutcomes(f.put(job(1, "refused"), entries), annotation.Rejected, annotation.Stored)
	f.wantOutcomes(f.put(job(1, "refused"), []store.Entry{{Number: 3, Item: parse(t, word("other", "T1"))[0].Item}}), annotation.Stored)
	f.wantExport("refused", labeled("1", "taken")+word("other", "T1"))
}

func testRealModes(f *fixture) {
	t := f.T
	if underRace {
		t.Skip("SKIPPED under the race detector: this test is one goroutine, in which that has nothing to find")
	}
	entries := parse(t, string(realData(t, "annotations/bc5cdr.jsonl")))
	const annotations, distinct = 11_789, 11_764
	for _, step := range []struct {
		job     store.Job
		want    int64
		outcome annotation.Outcome
		code    string
	}{
		{in(store.ModeReplace, 1, "bc5cdr"), annotations, annotation.Stored, ""},
		{in(store.ModeAdd, 2, "bc5cdr"), 2 * annotations, annotation.StoredWarnings, "ID_CHANGED"},
		{in(store.ModeMerge, 3, "bc5cdr"), 2 * annotations, annotation.Stored, ""},
		{in(store.ModeSkip, 4, "bc5cdr"), 2 * annotations, annotation.Skipped, ""},
		{in(store.ModeMerge, 5, "empty"), distinct, annotation.Stored, ""},
		{in(store.ModeReplace, 7, "empty"), annotations, annotation.Stored, ""},
	} {
		name := step.job.Mode + " in " + step.job.Project
		for _, r := range f.put(step.job, entries) {
			changed := slices.ContainsFunc(r.Findings, func(finding annotation.Finding) bool { return finding.Code == store.IDChanged })
			crossing := len(r.Findings) > 0 && !changed // BC5CDR has a few of its own
			if changed != (step.code != "") || r.Outcome != step.outcome && !crossing {
				t.Errorf("%s: %v", name, r)
			}
		}
		counts, err := f.store.Count(t.Context(), step.job.Project)
		if err != nil || counts.Documents != 600 || counts.Annotations() != step.want {
			t.Errorf("%s: %+v, %v, want %d annotations", name, counts, err, step.want)
		}
	}
	seen := make(map[string]bool)
	for _, item := range f.export("bc5cdr") {
		for _, d := range item.Denotations {
			if name := item.Key.String() + d.ID; seen[name] {
				t.Errorf("document %s has the id %s twice", item.Key, d.ID)
			} else {
				seen[name] = true
			}
		}
	}
}
