package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tallyman-dev/tallyman/annotation"
	"github.com/tallyman-dev/tallyman/annotation/store"
)

// forget forgets jobs in small steps and returns how many it took.
func (f *fixture) forget(limit int, jobs ...int64) int {
	f.Helper()
	for steps := 1; ; steps++ {
		more, err := f.writer.Forget(f.Context(), jobs, limit)
		if err != nil {
			f.Fatal(err)
		}
		if !more {
			return steps
		}
		if steps > 1000 {
			f.Fatal("it does not end")
		}
	}
}

// kept returns how many rows are kept for a job that may still write.
func (f *fixture) kept(job int64) string {
	f.Helper()
	var counts []string
	for _, table := range []string{"fences", "store_items", "store_skips"} {
		rows, err := f.engine.Query(f.Context(), f.store, fmt.Sprintf(`SELECT count(*) FROM %s WHERE job_id = %d`, table, job))
		if err != nil {
			f.Fatal(err)
		}
		counts = append(counts, rows[0][0])
	}
	return strings.Join(counts, " ")
}

func (f *fixture) wantKept(job int64, want string) {
	f.Helper()
	if got := f.kept(job); got != want {
		f.Errorf("of job %d there are %s fences, answers and skips, want %s", job, got, want)
	}
}

// What jobs that are gone have stored stays where it is; what was kept for them goes.
func testForget(f *fixture) {
	t := f.T
	passages := parse(t, word("ab", "T1")+word("cd", "T2")+word("ef", "T3"))
	lease := newLease()
	if _, err := putBy(t.Context(), f.writer, lease, job(1, "forget"), passages); err != nil {
		t.Fatal(err)
	}
	child := newLease()
	child.Ancestors = []int64{lease.Batch}
	if err := f.writer.Begin(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	rejected := parse(t, word("unheard of", "T1"))
	rejected[0].Number = 4
	f.put(in(store.ModeMerge, 2, "forget"), append(parse(t, word("cd", "U1")+word("ef", "U2")+`{"sourcedb":"P","sourceid":"1","text":"cd","denotations":[{"id":"U1","span":{"begin":0,"end":1},"obj":"C"},{"id":"U2","span":{"begin":0,"end":2},"obj":"Word"}],"relations":[{"id":"R1","subj":"U1","pred":"p","obj":"U2"}],"attributes":[{"id":"A1","subj":"U2","pred":"q"}]}`), rejected...))
	f.put(in(store.ModeSkip, 3, "forget"), passages)
	f.put(in(store.ModeSkip, 4, "other"), passages)
	mine, other := f.export("forget"), f.export("other")
	f.wantKept(1, "2 3 0")
	f.wantKept(2, "1 4 0")
	f.wantKept(3, "1 3 1")

	if steps := f.forget(2, 1); steps < 3 {
		t.Errorf("it took %d steps to remove 5 rows by two", steps)
	}
	f.wantKept(1, "0 0 0")
	f.wantKept(2, "1 4 0")
	same := func(when string) {
		t.Helper()
		if diff := diffItems(mine, f.export("forget")); diff != "" {
			t.Errorf("%s (-before +after):\n%s", when, diff)
		}
		if diff := diffItems(other, f.export("other")); diff != "" {
			t.Errorf("%s, other project (-before +after):\n%s", when, diff)
		}
		rows, err := f.engine.Query(t.Context(), f.store, `SELECT id, "begin", "end" FROM denotations WHERE project = 'forget' AND job_id = 1 ORDER BY "begin"`)
		if got := fmt.Sprint(rows); err != nil || got != "[[T1 0 2] [T2 3 5] [T3 6 8]]" {
			t.Errorf("%s the view has %s, %v", when, got, err)
		}
	}
	same("without job 1")
	// Its lease is no right any more.
	_, err := collect(t.Context(), f.writer, lease, job(1, "forget"), passages)
	f.wantError(err, store.ErrFenced)
	// The others can still write; the text stays as it is.
	f.wantOutcomes(f.put(in(store.ModeMerge, 2, "forget"), []store.Entry{{Number: 9, Item: passages[0].Item}}), annotation.Stored)
	overlapping := in(store.ModeMerge, 5, "forget")
	f.wantOutcomes(f.put(overlapping, append(parse(t, word("ab", "T1")), rejected...)), annotation.Stored, annotation.Rejected)
	same("after more was merged")

	f.forget(100, 2, 3)
	f.wantKept(2, "0 0 0")
	f.wantKept(3, "0 0 0")
	f.wantKept(4, "1 3 1")
	same("without jobs 2 and 3")
	f.put(in(store.ModeMerge, 6, "forget"), parse(t, word("cd", "V1")))
	same("after it was merged once more")
	f.forget(1, 4, 5, 6, 7)
	same("without any")
	// New jobs find the document as they would have.
	f.wantOutcomes(f.put(in(store.ModeSkip, 8, "forget"), passages), annotation.Skipped, annotation.Skipped, annotation.Skipped)
	f.put(job(9, "forget"), parse(t, `{"sourcedb":"P","sourceid":"1","text":"ab"}`))
	f.wantExport("forget", `{"sourcedb":"P","sourceid":"1","text":"ab\ncd\nef"}`)

	for name, call := range map[string]func() (bool, error){
		"no limit": func() (bool, error) { return f.writer.Forget(t.Context(), []int64{1}, 0) },
		"no job":   func() (bool, error) { return f.writer.Forget(t.Context(), []int64{1, 0}, 10) },
	} {
		if _, err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if more, err := f.writer.Forget(t.Context(), nil, 10); more || err != nil {
		t.Errorf("nothing to forget: %v, %v", more, err)
	}
}

// A text that two jobs compose is final once one of them is forgotten, since what that one said would not move with it.
func testForgetComposer(f *fixture) {
	t := f.T
	always := func(j store.Job) store.Job {
		j.Overlaps = func(context.Context, int64) (bool, error) { return true, nil }
		return j
	}
	first, second := always(job(1, "first")), always(job(2, "second"))
	f.put(first, parse(t, word("b", "T1")))
	f.put(second, parse(t, word("c", "T1")+word("b", "T2")))
	want := f.export("second")
	f.forget(10, 2)
	late := parse(t, word("x", "T1")+word("a", "T2")+word("c", "T3"))[1:]
	f.wantOutcomes(f.put(first, late), annotation.Rejected, annotation.Stored)
	if diff := diffItems(want, f.export("second")); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	// Of a text that only forgotten jobs compose, an older one finds what it holds.
	f.put(always(job(5, "fifth")), parse(t, labeled("1", "O")))
	f.forget(10, 5)
	mismatch := parse(t, `{"sourcedb":"D","sourceid":"1","text":"other"}`+"\n"+labeled("1", "O"))
	f.wantOutcomes(f.put(always(job(4, "fourth")), mismatch), annotation.Rejected, annotation.Stored)
	f.wantExport("fifth", labeled("1", "O"))
}

// Jobs are listed for as long as there is anything to forget of them, whatever it is.
func testJobs(f *fixture) {
	t := f.T
	for _, id := range []int64{7, 3, 1 << 40} {
		f.put(job(id, "jobs"), parse(t, word("ab", "T1")+word("cd", "T2")))
	}
	lease := newLease()
	lease.Job = 5
	if err := f.writer.Begin(t.Context(), lease); err != nil { // it has a fence, and no more
		t.Fatal(err)
	}
	f.put(in(store.ModeSkip, 8, "jobs"), parse(t, word("ab", "T1")))
	list := func(after int64, limit int) []int64 {
		t.Helper()
		jobs, err := f.writer.Jobs(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	want := func(what string, got []int64, want ...int64) {
		t.Helper()
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("all", list(0, 10), 3, 5, 7, 8, 1<<40)
	want("exactly all", list(0, 5), 3, 5, 7, 8, 1<<40)
	want("the first two", list(0, 2), 3, 5)
	want("the next two", list(5, 2), 7, 8)
	want("those behind one that is not there", list(4, 1), 5)
	want("the last", list(8, 1), 1<<40)
	want("behind the last", list(1<<40, 10))
	for {
		if _, err := f.writer.Forget(t.Context(), []int64{8}, 1); err != nil {
			t.Fatal(err)
		}
		left := f.kept(8)
		if left == "0 0 0" {
			break
		}
		want("with "+left+" rows", list(7, 1), 8)
	}
	f.forget(100, 3, 5)
	want("what is not forgotten", list(0, 10), 7, 1<<40)
	f.forget(100, 7, 1<<40)
	want("nothing", list(0, 10))
	for _, page := range [][2]int64{{0, 0}, {-1, 10}} {
		if _, err := f.writer.Jobs(t.Context(), page[0], int(page[1])); err == nil {
			t.Errorf("%d after %d: no error", page[1], page[0])
		}
	}
}

// Several forget the same jobs, while another job writes into the same documents.
func testForgetAtOnce(f *fixture) {
	t := f.T
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, `{"sourcedb":"D","sourceid":"%d","text":"words","denotations":[{"id":"T1","span":{"begin":0,"end":5},"obj":"Word"}]}`+"\n", i)
	}
	entries := parse(t, lines.String())
	for id := range int64(3) {
		f.put(in(store.ModeSkip, id+1, "gone"), entries)
		f.put(in(store.ModeAdd, id+1, "gone"), entries)
	}
	before := f.export("gone")
	var all sync.WaitGroup
	for range 4 {
		w := f.newWriter(f.again())
		all.Go(func() {
			for more := true; more; {
				var err error
				if more, err = w.Forget(t.Context(), []int64{1, 2, 3}, 7); err != nil {
					t.Error(err)
				}
			}
		})
	}
	f.wantOutcomes(f.put(in(store.ModeAdd, 4, "stays"), entries), slices.Repeat([]annotation.Outcome{annotation.Stored}, 40)...)
	all.Wait()
	for id := range int64(3) {
		f.wantKept(id+1, "0 0 0")
	}
	f.wantKept(4, "1 40 0")
	if diff := diffItems(before, f.export("gone")); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}
