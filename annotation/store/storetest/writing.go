package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

const everything = `{"sourcedb":"PubMed","sourceid":"1","text":"Aspirin 𝄞 helps a lot.","denotations":[{"id":"T1","span":{"begin":0,"end":7},"obj":"Chemical"},{"id":"T2","span":{"begin":10,"end":15},"obj":"Verb"}],"blocks":[{"id":"B1","span":{"begin":0,"end":22},"obj":"Sentence"},{"id":"B2","span":{"begin":0,"end":9},"obj":"Phrase"}],"relations":[{"id":"R1","subj":"T1","pred":"does","obj":"T2"},{"id":"R2","subj":"B2","pred":"in","obj":"B1"}],"attributes":[{"id":"A1","subj":"T1","pred":"s","obj":"1"},{"id":"A2","subj":"T1","pred":"n","obj":1.50},{"id":"A3","subj":"B1","pred":"t","obj":true},{"id":"A4","subj":"R1","pred":"f","obj":false},{"id":"A5","subj":"R1","pred":"quoted","obj":"\"\\\u00e9\n"}]}`

func testAnnotations(f *fixture) {
	t := f.T
	lines := everything + `
{"sourcedb":"PubMed","sourceid":"10","text":"No annotations."}
{"sourcedb":"Ünï","sourceid":"10.1000/x y","text":"日本語","denotations":[{"id":"東","span":{"begin":1,"end":3},"obj":"語"}]}`
	f.wantOutcomes(f.put(job(1, "every"), parse(t, lines)), annotation.Stored, annotation.Stored, annotation.Stored)
	f.wantExport("every", lines)
	counts, err := f.store.Count(t.Context(), "every")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(store.Counts{Documents: 3, Denotations: 3, Blocks: 2, Relations: 2, Attributes: 5}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if counts.Annotations() != 12 {
		t.Errorf("%d annotations, want 12", counts.Annotations())
	}
	f.wantExport("other", "")
	if counts, err = f.store.Count(t.Context(), "other"); err != nil || counts != (store.Counts{}) {
		t.Errorf("an unknown project has %v, %v", counts, err)
	}
}

func testRepeatedItem(f *fixture) {
	t := f.T
	entries := parse(t, `{"sourcedb":"X","sourceid":"1","text":"one","denotations":[{"id":"T1","span":{"begin":0,"end":3},"obj":"N"}]}
{"sourcedb":"X","sourceid":"1","text":"two","denotations":[{"id":"T1","span":{"begin":0,"end":3},"obj":"N"}]}
{"sourcedb":"X","sourceid":"2","text":"two"}`)
	lease := newLease()
	first, err := putBy(t.Context(), f.writer, lease, job(1, "again"), entries)
	if err != nil {
		t.Fatal(err)
	}
	f.wantOutcomes(first, annotation.Stored, annotation.StoredWarnings, annotation.Stored)
	before := f.export("again")
	for range 2 {
		again, err := collect(t.Context(), f.writer, lease, job(1, "again"), entries)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(first, again); diff != "" {
			t.Errorf("results (-first +again):\n%s", diff)
		}
		lease.Attempt++
		if err := f.writer.Begin(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
	}
	// Part of what was decided together with something new.
	entries = append(entries, store.Entry{Number: 4, Item: entries[2].Item})
	again, err := collect(t.Context(), f.writer, lease, job(1, "again"), entries[1:])
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(first[1:], again[:2]); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}
	if diff := diffItems(before, f.export("again")); diff != "" {
		t.Errorf("export (-first +again):\n%s", diff)
	}
}

func testFindings(f *fixture) {
	t := f.T
	item := parse(t, `{"sourcedb":"X","sourceid":"1","text":"one"}`)[0].Item
	warn := func(n int, path, message string) []annotation.Finding {
		return slices.Repeat([]annotation.Finding{{Code: annotation.CrossingSpans, Severity: annotation.Warning, Path: path, Message: message}}, n)
	}
	entries := []store.Entry{
		{Number: 1, Item: item, Warnings: warn(2, "denotations[3].span.end", "It crosses \"T1\".\n日本")},
		{Number: 2, Item: item, Warnings: warn(5000, "text", "x")},
		{Number: 3, Item: item, Warnings: warn(1, strings.Repeat("é", 5000), "bad \xff byte and \x00")},
	}
	first := f.put(job(1, "finds"), entries)
	f.wantOutcomes(first, annotation.StoredWarnings, annotation.StoredWarnings, annotation.StoredWarnings)
	if diff := gocmp.Diff(entries[0].Warnings, first[0].Findings); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if n := len(first[1].Findings); n != annotation.DefaultMaxFindings+1 || first[1].Findings[n-1].Code != annotation.MoreFindings {
		t.Errorf("%d of 5000 findings are kept, the last is %v", n, first[1].Findings[n-1])
	}
	if n := len(first[2].Findings[0].Path); n > 3000 {
		t.Errorf("a path of %d bytes is kept", n)
	}
	if diff := gocmp.Diff(first, f.put(job(1, "finds"), entries)); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}
}

func testMisuse(f *fixture) {
	t := f.T
	good := parse(t, `{"sourcedb":"X","sourceid":"1","text":"one"}
{"sourcedb":"X","sourceid":"2","text":"two"}`)
	lease, j := newLease(), job(1, "wrong")
	if err := f.writer.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	bad := good[0]
	bad.Warnings = []annotation.Finding{{Code: annotation.InvalidJSON, Severity: annotation.Error}}
	for name, err := range map[string]error{
		"no deadline":     f.writer.Begin(t.Context(), store.Lease{Batch: 1, Attempt: 1, Job: 1}),
		"no attempt":      f.writer.Begin(t.Context(), store.Lease{Batch: 1, Job: 1, Deadline: lasting}),
		"lease of no job": f.writer.Begin(t.Context(), store.Lease{Batch: 1, Attempt: 1, Deadline: lasting}),
		"another job":     f.writer.Store(t.Context(), lease, job(2, "wrong"), good, nil),
		"mode":            f.writer.Store(t.Context(), lease, store.Job{ID: 1, Project: "wrong", Mode: "append"}, good, nil),
		"no project":      f.writer.Store(t.Context(), lease, store.Job{ID: 1, Mode: store.ModeReplace}, good, nil),
		"no job":          f.writer.Store(t.Context(), lease, job(0, "wrong"), good, nil),
		"order":           f.writer.Store(t.Context(), lease, j, []store.Entry{good[1], good[0]}, nil),
		"number twice":    f.writer.Store(t.Context(), lease, j, []store.Entry{good[0], good[0]}, nil),
		"no item":         f.writer.Store(t.Context(), lease, j, []store.Entry{{Number: 1}}, nil),
		"rejected item":   f.writer.Store(t.Context(), lease, j, []store.Entry{bad}, nil),
	} {
		if err == nil || errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.wantExport("wrong", "")
	if err := f.writer.Store(t.Context(), lease, j, nil, nil); err != nil {
		t.Errorf("nothing to store: %v", err)
	}
}

// numbered returns n items of as many documents.
func numbered(t testing.TB, n int) []store.Entry {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"sourcedb":"N","sourceid":"%d","text":"Text %d.","denotations":[{"id":"T1","span":{"begin":0,"end":4},"obj":"Word"}]}`+"\n", i, i)
	}
	return parse(t, lines.String())
}

func testProgress(f *fixture) {
	t := f.T
	lease := newLease()
	if err := f.writer.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	reported := int64(0)
	calls := 0
	err := f.writer.Store(t.Context(), lease, job(1, "durable"), numbered(t, 1500), func(durable []store.Result) {
		reported += int64(len(durable))
		calls++
		counts, err := f.store.Count(t.Context(), "durable")
		if err != nil || counts.Documents != reported {
			t.Errorf("%d items reported, %d documents are there, %v", reported, counts.Documents, err)
		}
	})
	if err != nil || reported != 1500 || calls < 2 || calls > 500 {
		t.Errorf("%d items reported in %d steps, %v", reported, calls, err)
	}
}

func testRefusedItem(f *fixture) {
	t := f.T
	entries := numbered(t, 9)
	for _, i := range []int{0, 4, 8} {
		bad := *entries[i].Item
		bad.Denotations = []annotation.Span{{ID: "T1", Begin: 3, End: 3, Obj: "Empty"}}
		entries[i].Item = &bad
	}
	// One that shares its document with a neighbor.
	same := *entries[4].Item
	same.Key = entries[5].Item.Key
	entries[4].Item = &same
	first := f.put(job(1, "refused"), entries)
	for i, r := range first {
		want := annotation.Stored
		if i%4 == 0 {
			want = annotation.Rejected
			f.wantCodes(r, "STORE_REFUSED")
		}
		if r.Outcome != want {
			t.Errorf("item %d: %v, want outcome %d", i+1, r, want)
		}
	}
	var want []*annotation.Item
	for i, e := range entries {
		if i%4 != 0 {
			want = append(want, e.Item)
		}
	}
	if diff := diffItems(want, f.export("refused")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(first, f.put(job(1, "refused"), entries)); diff != "" {
		t.Errorf("results (-first +again):\n%s", diff)
	}

	// What was refused is no passage of a document that comes to be later.
	passages := parse(t, word("refused", "T1")+word("taken", "T2"))
	passages[0].Item.Denotations[0].End = 0
	f.wantOutcomes(f.put(job(2, "refused-passage"), passages[:1]), annotation.Rejected)
	f.wantOutcomes(f.put(job(2, "refused-passage"), passages), annotation.Rejected, annotation.Stored)
	f.wantExport("refused-passage", word("taken", "T2"))
}

// testInterrupted ends a call after each of its transactions and in the middle of them, as a process that dies does, and
// lets another attempt finish.
func testInterrupted(f *fixture) {
	t := f.T
	entries := numbered(t, 1200)
	j := job(1, "interrupted")
	lease := newLease()
	reason := errors.New("the handler was told to stop")
	for stop := range 2 { // a call has three transactions at least
		lease.Attempt = int32(stop + 1)
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := f.writer.Begin(ctx, lease); err != nil {
			t.Fatal(err)
		}
		calls := 0
		err := f.writer.Store(ctx, lease, j, entries, func([]store.Result) {
			if calls++; calls > stop {
				cancel(reason)
			}
		})
		f.wantError(err, reason)
		cancel(nil)
	}
	for attempt := range int32(5) {
		lease.Attempt = 10 + attempt
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(attempt)*3*time.Millisecond)
		_, err := putBy(ctx, f.writer, lease, j, entries)
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		cancel()
	}
	lease.Attempt = 100
	results, err := putBy(t.Context(), f.writer, lease, j, entries)
	if err != nil {
		t.Fatal(err)
	}
	f.wantOutcomes(results, slices.Repeat([]annotation.Outcome{annotation.Stored}, len(entries))...)
	var want []*annotation.Item
	for _, e := range entries {
		want = append(want, e.Item)
	}
	slices.SortFunc(want, func(a, b *annotation.Item) int { return strings.Compare(a.Key.SourceID, b.Key.SourceID) })
	if diff := diffItems(want, f.export("interrupted")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testClosed(f *fixture) {
	t := f.T
	lease := newLease()
	if err := f.writer.Begin(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	if err := f.writer.Close(); err != nil {
		t.Error(err)
	}
	if err := f.writer.Store(t.Context(), lease, job(1, "closed"), numbered(t, 1), nil); err == nil {
		t.Error("a closed writer stores")
	}
	if err := f.writer.Close(); err == nil {
		t.Error("a closed writer can be closed")
	}
	// Others go on.
	if _, err := putBy(t.Context(), f.newWriter(f.store), lease, job(1, "closed"), numbered(t, 1)); err != nil {
		t.Error(err)
	}
}

func testOwner(f *fixture) {
	t := f.T
	if _, err := f.store.Writer(t.Context(), cluster); err != nil {
		t.Errorf("the owner's second writer: %v", err)
	}
	other := f.again()
	_, err := other.Writer(t.Context(), "another")
	f.wantError(err, store.ErrOwner)
	if _, err := other.Writer(t.Context(), ""); err == nil {
		t.Error("a writer without a coordinator database is opened")
	}
	if _, err := other.Count(t.Context(), "any"); err != nil {
		t.Errorf("reading needs no owner: %v", err)
	}
}

func testOpenAtOnce(f *fixture) {
	t := f.T
	var group errgroup.Group
	stores := make([]store.Store, 4)
	for i := range stores {
		stores[i] = f.again()
	}
	entries := numbered(t, 4)
	for i, s := range stores {
		group.Go(func() error {
			w, err := s.Writer(t.Context(), cluster)
			if err != nil {
				return err
			}
			_, err = putBy(t.Context(), w, newLease(), job(1, "at-once"), entries[i:i+1])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	items, err := exportOf(t.Context(), stores[0], "at-once")
	if err != nil || len(items) != len(entries) {
		t.Errorf("%d documents, %v", len(items), err)
	}
}
